"""Another run, for tests of `deploy_lock`."""

OTHER = {"controller": "laptop", "system": "boot-2 pid:[2]", "user": "alice", "pid": 4711, "start": 99}
SINCE = 1_764_000_000.0  # 2025-11-24 16:00:00 UTC
