"""Files are replaced whole or not at all, and reach the disk before their name does."""

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sser.errors import ModelError, SettingsError, SinkError
from edge_sser.files import (
    as_cell,
    atomic_replace,
    cache_directory,
    from_cell,
    make_folder,
    resolve_path,
    state_directory,
    write_file,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """The calls that bring a file to the disk, in their order."""
    made: list[tuple[str, Path]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        made.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def noted_replace(temporary: Path, path: Path) -> None:
        made.append(("replace", path))
        replace(temporary, path)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    return made


def test_text_and_bytes_are_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_file(path, "°C\n", SinkError)
    assert path.read_bytes() == b"\xc2\xb0C\n"
    write_file(path, b"\x00\xff", SinkError)
    assert path.read_bytes() == b"\x00\xff"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_new_file_and_its_folder_have_the_mode_that_the_umask_allows(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    write_file(path, "x", SinkError)
    assert (mode(path), mode(path.parent)) == (0o640, 0o750)


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o604)
    write_file(path, "x", SinkError)
    assert mode(path) == 0o604


def test_a_given_mode_holds_whatever_the_umask_and_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    for expected in (0o644, 0o600):
        write_file(path, "x", SinkError, mode=expected, folder_mode=0o755)
        assert (mode(path), mode(path.parent)) == (expected, 0o755)


def test_a_secret_is_private_from_the_first_moment(tmp_path: Path) -> None:
    with atomic_replace(tmp_path / "password", SinkError, mode=0o600) as temporary:
        assert mode(temporary) == 0o600


def test_the_folder_of_a_file_that_stands_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    write_file(tmp_path / "file", "x", SinkError, folder_mode=0o755)
    assert mode(tmp_path) == 0o711


def test_content_and_then_name_reach_the_disk(tmp_path: Path, calls: list[tuple[str, Path]]) -> None:
    path = tmp_path / "file"
    with atomic_replace(path, SinkError) as temporary:
        temporary.write_text("x", encoding="utf-8")
    assert calls == [("fsync", temporary), ("replace", path), ("fsync", tmp_path)]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_what_stood_there_and_nothing_half_written(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "file"
    path.write_text("before", encoding="utf-8")
    expected = SinkError if isinstance(failure, OSError) else KeyboardInterrupt

    def write_half() -> None:
        with atomic_replace(path, SinkError) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise failure

    with pytest.raises(expected):
        write_half()
    assert path.read_text("utf-8") == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_fails_on_fsync_is_told_and_the_name_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ModelError, match=r"file: cannot be written \(Input/output error\): buy a disk"):
        write_file(tmp_path / "file", "x", ModelError, "buy a disk")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_fsync_a_folder_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_file(tmp_path / "file", "x", SinkError)
    assert (tmp_path / "file").read_text("utf-8") == "x"


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before", encoding="utf-8")
    target.chmod(0o666)
    link.symlink_to(target)
    write_file(link, "x", SinkError)
    assert not link.is_symlink()
    assert (link.read_text("utf-8"), mode(link)) == ("x", 0o640)
    assert (target.read_text("utf-8"), mode(target)) == ("before", 0o666)


def test_what_a_killed_process_left_does_not_block_and_is_not_followed(tmp_path: Path) -> None:
    path, victim = tmp_path / "file", tmp_path / "victim"
    victim.write_text("before", encoding="utf-8")
    with atomic_replace(path, SinkError) as temporary:
        pass
    temporary.symlink_to(victim)
    write_file(path, "x", SinkError)
    assert path.read_text("utf-8") == "x"
    assert victim.read_text("utf-8") == "before"
    assert not temporary.is_symlink()


def test_a_folder_that_stands_there_is_left_as_it_is_and_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    make_folder(tmp_path, 0o755)
    assert mode(tmp_path) == 0o711
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


@pytest.mark.parametrize(
    ("environ", "state", "cache"),
    [
        ({"STATE_DIRECTORY": "/s:/other", "CACHE_DIRECTORY": "/c:/other"}, "/s", "/c"),
        ({"XDG_STATE_HOME": "/x/s", "XDG_CACHE_HOME": "/x/c"}, "/x/s/edge-sser", "/x/c/edge-sser"),
        (
            {"XDG_STATE_HOME": "relative", "XDG_CACHE_HOME": "relative"},
            "/home/me/.local/state/edge-sser",
            "/home/me/.cache/edge-sser",
        ),
    ],
)
def test_state_and_cache_have_their_folders(monkeypatch, environ: dict[str, str], state: str, cache: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert (str(state_directory(environ)), str(cache_directory(environ))) == (state, cache)


def test_without_a_home_the_message_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(SettingsError, match="set STATE_DIRECTORY or HOME"):
        state_directory({})
    with pytest.raises(SettingsError, match="set CACHE_DIRECTORY or HOME"):
        cache_directory({})


def test_a_path_of_the_settings_is_below_home_or_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("STATE_DIRECTORY", "/state")
    found = [str(resolve_path(Path(name))) for name in ("events.jsonl", "~/events.jsonl", "/srv/events.jsonl")]
    assert found == ["/state/events.jsonl", "/home/me/events.jsonl", "/srv/events.jsonl"]


@given(st.text(alphabet="'=+-@\t\r\na1,\"", max_size=6))
def test_any_text_survives_as_a_cell_and_none_is_a_formula(text: str) -> None:
    cell = as_cell(text)
    assert from_cell(cell) == text
    assert not cell or cell[0] not in "=+-@\t\r"
