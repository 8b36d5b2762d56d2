"""The picture of a load: every request is in it, in the colour of the release that answered it."""

from xml.etree import ElementTree

from load_report import Report  # type: ignore[import-not-found]  # as in test_load_client.py
from timeline import COLOURS, FAILED, draw  # type: ignore[import-not-found]

SVG = "{http://www.w3.org/2000/svg}"


def loaded():
    report = Report(["demo"])
    for number in range(100):
        report.add(1000 + number / 10, 0.01, "demo", "get_keep", "old" if number < 60 else "new & bold")
    report.add(1006, 0.01, "demo", "post", None, "refused")
    return report


def test_height_of_all_columns_of_a_colour_is_its_share_of_the_requests():
    root = ElementTree.fromstring(draw(loaded(), "A <title>"))
    height = dict.fromkeys([*COLOURS[:2], FAILED], 0.0)
    for column in root.iter(f"{SVG}rect"):
        if float(column.attrib["x"]) >= 56 and float(column.attrib["y"]) > 60:
            height[column.attrib["fill"]] += float(column.attrib["height"])
    total = sum(height.values())
    assert [round(101 * part / total) for part in height.values()] == [60, 40, 1]


def test_names_and_counts_are_in_the_legend():
    root = ElementTree.fromstring(draw(loaded(), "A <title>"))
    told = [text.text for text in root.iter(f"{SVG}text")]
    assert {"A <title>", "old: 60", "new & bold: 40", "failed: 1"} <= set(told)
