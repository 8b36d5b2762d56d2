"""Whether the other hosts follow the first ones: by the errors that the load balancers have counted."""

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils.fleet import check_errors
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused


def seen(responses, errors, server="web2", app="shop"):
    return {"app": app, "server": server, "responses": responses, "errors": errors}


def check(before, after, percent=5):
    check_errors(before, after, ["web2"], ["shop"], percent)


def test_errors_above_the_limit_are_counted_over_all_balancers():
    before = [seen(100, 50), seen(10, 0)]
    with pytest.raises(Refused, match=r"^3 of 50 responses of shop on web2 were errors \(5xx\), more than the 5 %"):
        check(before, [seen(130, 52), seen(30, 1)])


OTHERS = [seen(9, 9, "web1"), seen(9, 9, app="blog")]


@pytest.mark.parametrize("after", [[seen(200, 55)], [seen(100, 50)], [seen(2, 0)], [seen(300, 50), *OTHERS]])
def test_few_errors_none_and_those_of_others_are_no_reason(after):
    check([seen(100, 50)], after)


def test_one_error_is_too_many_when_none_is_allowed():
    with pytest.raises(Refused, match=r"^1 of 100 responses"):
        check([], [seen(100, 1)], percent=0)
