"""What tests of sources read of a packed source."""

import tarfile


def read(file, name):
    with tarfile.open(file) as archive:
        found = archive.extractfile(name)
        assert found
        return found.read()


def members(file):
    with tarfile.open(file) as archive:
        return {member.name: member for member in archive}
