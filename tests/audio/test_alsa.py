"""Holders of a card's microphone, from the kernel's files, which the tests write."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from edge_sser.audio.alsa import Holder, holders


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a card, PCH."""
    monkeypatch.setattr("edge_sser.audio.alsa.ALSA", tmp_path)
    folder = tmp_path / "card1"
    folder.mkdir()
    (folder / "id").write_text("PCH\n")
    return folder


def write_status(card: Path, pcm: str, *owners: int | None) -> None:
    """Writes the kernel's file of each substream: its owner, or that it is closed."""
    for number, owner in enumerate(owners):
        status = card / pcm / f"sub{number}" / "status"
        status.parent.mkdir(parents=True)
        status.write_text("closed\n" if owner is None else f"state: RUNNING\nowner_pid   : {owner}\n")


def test_a_microphone_that_nobody_has_is_held_by_nobody(card: Path) -> None:
    write_status(card, "pcm0c", None)
    assert holders() == []


def test_a_holder_is_a_process_though_the_kernel_names_a_thread(card: Path) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    assert thread.native_id != os.getpid()
    write_status(card, "pcm2c", thread.native_id)
    (holder,) = holders()
    done.set()
    thread.join()
    assert holder == Holder("pch-2", os.getpid(), Path("/proc/self/comm").read_text().strip())


def test_who_plays_holds_no_microphone(card: Path) -> None:
    write_status(card, "pcm0p", os.getpid())
    assert holders() == []


def test_a_card_with_one_more_to_give_is_held_by_nobody(card: Path) -> None:
    write_status(card, "pcm0c", os.getpid(), None)
    assert holders() == []


def test_a_program_in_another_container_has_no_name(card: Path) -> None:
    write_status(card, "pcm0c", 0)
    assert [str(holder) for holder in holders()] == ["? (pid 0)"]


def test_a_machine_without_alsa_has_no_holders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sser.audio.alsa.ALSA", tmp_path / "gone")
    assert holders() == []
