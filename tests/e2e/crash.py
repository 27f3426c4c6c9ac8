"""`kill -9` at random moments: every accepted prompt ends in the history exactly once, in order, with one whole file.

`python tests/e2e/crash.py --prompts 10000 --kills 100` runs the large one; `cargo xtask crash` does so with the test
environment. A test runs the small one."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import requests
from PIL import Image

from harness import BINARY, free_port

#: What a prompt that the server has ended twice under is told.
GIVEN_UP = "is not run again"


def graph(index: int) -> dict:
    """A prompt that costs little and writes one file of its own name, of a colour of its own."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": index}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": f"p{index:06}"}},
    }


class Life:
    """One process, from start to `kill -9`."""

    def __init__(self, base: Path, port: int):
        self.url = f"http://127.0.0.1:{port}"
        command = [BINARY, "serve", "--base-directory", base, "--port", str(port), "--cpu"]
        self.log = open(base / "server.log", "ab")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def answers(self, timeout: float = 60) -> "Life":
        deadline = time.monotonic() + timeout
        while True:
            try:
                if requests.get(f"{self.url}/prompt", timeout=5).ok:
                    return self
            except requests.RequestException:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(f"the server did not start: {self.log.name}") from None
                time.sleep(0.01)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


class Submitter(threading.Thread):
    """Sends prompts one after the other, through every life of the server, and notes which were accepted."""

    def __init__(self, url: str, prompts: int):
        super().__init__(daemon=True)
        self.url, self.prompts = url, prompts
        self.accepted: list[int] = []
        self.sent = 0

    def run(self):
        session = requests.Session()
        while self.sent < self.prompts:
            index = self.sent
            self.sent += 1
            body = {"prompt": graph(index), "prompt_id": f"p{index:06}"}
            while True:
                try:
                    answer = session.post(f"{self.url}/prompt", json=body, timeout=30)
                except requests.exceptions.ConnectionError as error:
                    # Nobody listened, so it was not sent: again. Else nobody knows whether it was accepted: the next.
                    if "refused" in str(error):
                        time.sleep(0.005)
                        continue
                    session = requests.Session()
                    break
                except requests.RequestException:
                    break
                assert answer.status_code == 200, answer.text
                self.accepted.append(index)
                break


@dataclass
class Report:
    """What came of it."""

    seed: int
    sent: int = 0
    accepted: int = 0
    kills: int = 0
    lost: list = field(default_factory=list)
    doubled: list = field(default_factory=list)
    given_up: int = 0
    repeated: int = 0
    out_of_order: int = 0
    broken_files: list = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.out_of_order or self.broken_files)

    def __str__(self):
        return (
            f"seed {self.seed}: {self.sent} prompts sent, {self.accepted} accepted, {self.kills} times kill -9: "
            f"{len(self.lost)} lost, {len(self.doubled)} doubled, {self.out_of_order} out of order, "
            f"{len(self.broken_files)} broken or surplus files; {self.repeated} runs were cut and repeated, "
            f"{self.given_up} given up after two lost attempts; {self.seconds:.0f} s"
        )


def unique_keys(pairs: list) -> dict:
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), "a key is there twice"
    return dict(pairs)


def crash(base: Path, prompts: int, kills: int, seed: int, say=lambda line: None) -> Report:
    """Runs it. One kill in four comes within a second of the start, so often while it starts; the others come when a random
    number of prompts more have been accepted, and a moment later, so while it takes prompts in and runs them."""
    begun = time.monotonic()
    generator = random.Random(seed)
    report = Report(seed)
    port = free_port()
    life = Life(base, port)
    submitter = Submitter(life.url, prompts)
    submitter.start()
    share = prompts / max(kills, 1)
    for kill in range(kills):
        if generator.random() < 0.25:
            time.sleep(generator.uniform(0.0, 1.0))
        else:
            # On average every prompt has been sent when the last kill comes.
            more = len(submitter.accepted) + generator.randint(0, int(share * 8 / 3))
            while len(submitter.accepted) < more and submitter.is_alive():
                time.sleep(0.002)
            time.sleep(generator.uniform(0.0, 0.2))
        life.kill()
        report.kills += 1
        report.repeated += running_rows(base)
        life = Life(base, port)
        if kill % 10 == 9:
            say(f"{kill + 1} kills, {len(submitter.accepted)} accepted")
    submitter.join(600)
    assert not submitter.is_alive(), "prompts are still being sent"
    life.answers()
    deadline = time.monotonic() + 60 + prompts * 0.5
    while requests.get(f"{life.url}/prompt", timeout=30).json()["exec_info"]["queue_remaining"]:
        assert time.monotonic() < deadline, "the queue is not done"
        time.sleep(0.05)
    history = json.loads(requests.get(f"{life.url}/history", timeout=300).text, object_pairs_hook=unique_keys)
    life.kill()
    report.sent, report.accepted = submitter.sent, len(submitter.accepted)
    check(base, submitter.accepted, history, report)
    report.seconds = time.monotonic() - begun
    return report


def running_rows(base: Path) -> int:
    """Prompts that were running when the server was killed."""
    path = base / "user" / "rushlight.db"
    if not path.exists():
        return 0
    with sqlite3.connect(path) as database:
        try:
            return database.execute("SELECT count(*) FROM queue WHERE running != 0").fetchone()[0]
        except sqlite3.OperationalError:
            return 0  # It was killed before it had made its tables.


def check(base: Path, accepted: list[int], history: dict, report: Report):
    ids = [f"p{index:06}" for index in accepted]
    report.lost = [prompt_id for prompt_id in ids if prompt_id not in history]
    order = list(history)
    report.out_of_order = sum(1 for before, after in zip(order, order[1:]) if before > after)
    expected = set()
    for prompt_id, entry in history.items():
        terminal = [
            data for name, data in entry["status"]["messages"]
            if name in ("execution_success", "execution_error", "execution_interrupted")
        ]
        if len(terminal) != 1:
            report.doubled.append(prompt_id)
        if entry["status"]["status_str"] == "success":
            (picture,) = entry["outputs"]["2"]["images"]
            expected.add(picture["filename"])
            if picture["filename"] != f"{prompt_id}_00001_.png":
                report.doubled.append(prompt_id)
        elif GIVEN_UP in terminal[0]["exception_message"]:
            report.given_up += 1
        else:
            report.lost.append(prompt_id)
    there = {path.name for path in (base / "output").iterdir()}
    report.broken_files = sorted(there ^ expected)
    for name in there & expected:
        index = int(name[1:7])
        with Image.open(base / "output" / name) as picture:
            wanted = (index >> 16, index >> 8 & 255, index & 255)
            if picture.size != (16, 16) or picture.convert("RGB").getpixel((15, 15)) != wanted:
                report.broken_files.append(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=10_000, help="at most 10,000, which is what the history holds")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"binary {BINARY}, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = crash(
            Path(folder), options.prompts, options.kills, options.seed, lambda line: print(line, flush=True)
        )
        print(report)
        if not report.good:
            print("lost", report.lost, "doubled", report.doubled, "files", report.broken_files, sep="\n")
            print((Path(folder) / "server.log").read_text()[-4000:])
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
