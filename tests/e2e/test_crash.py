"""Nothing accepted is lost or done twice when the process is killed."""

from __future__ import annotations

from crash import crash


def test_200_prompts_and_20_times_kill_9(tmp_path, capsys):
    report = crash(tmp_path, prompts=200, kills=20, seed=20)
    with capsys.disabled():
        print(f"\n{report}")
    assert report.kills == 20 and report.accepted > 100
    assert report.good, report
