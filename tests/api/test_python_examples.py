"""The examples for Python programs run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
import soundfile
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGE = ROOT / "docs" / "python.md"
TIMEOUT_SECONDS = 120


@pytest.fixture(scope="module")
def pcm(speech: Path) -> bytes:
    samples, _ = soundfile.read(speech, dtype="int16")
    return samples.tobytes()


def test_every_example_has_its_test() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {"from_asyncio.py", "websocket_server.py", "recording.ipynb"}


def test_the_asyncio_program_prints_levels_and_the_episode(pcm: bytes) -> None:
    command = [sys.executable, str(EXAMPLES / "from_asyncio.py")]
    result = subprocess.run(command, input=pcm, capture_output=True, check=True, timeout=TIMEOUT_SECONDS)
    lines = result.stdout.decode().splitlines()
    assert any(re.fullmatch(r" +\d+\.\d s  low +0\.\d\d", line) for line in lines)
    assert [line.partition("episode ")[2].partition(",")[0] for line in lines if "episode" in line] in (
        ["start", "end"],
        ["start", "update", "end"],
    )


def test_the_web_socket_server_answers_several_clients(pcm: bytes) -> None:
    command = [sys.executable, str(EXAMPLES / "websocket_server.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().split()[-1])
            address = f"ws://127.0.0.1:{port}/?rate="
            with connect(address + "16000") as first, connect(address + "16000") as second:
                answers = []
                for client, size in ((first, 32_000), (second, 33_334)):
                    for start in range(0, len(pcm), size):
                        client.send(pcm[start : start + size])
                    client.send("end")
                    answers.append([json.loads(message) for message in client])
            kinds = [{event["type"] for event in events} for events in answers]
            assert kinds == [{"reading", "episode", "health"}] * 2
            stress = [[event["stress"] for event in events if event["type"] == "reading"] for events in answers]
            assert len(stress[0]) > 50
            assert stress[0] == stress[1]
            with connect(address + "1") as client:
                client.send(pcm[:320])
                with pytest.raises(ConnectionClosedError, match="8000 to 192000"):
                    client.recv()
        finally:
            server.terminate()


def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "recording.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # results of others are not committed
    client = nbclient.NotebookClient(notebook, timeout=TIMEOUT_SECONDS, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    kinds = [
        {kind for output in cell.outputs for kind in output.get("data", {})}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    assert ["text/html" in kinds[0], "image/png" in kinds[1], "text/html" in kinds[2]] == [True] * 3


def test_the_examples_of_the_page_run_one_after_another(speech: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 3
    samples, rate = soundfile.read(speech, dtype="float32")
    soundfile.write(tmp_path / "talk.wav", np.stack((samples, samples), axis=1), rate)
    (tmp_path / "config.toml").write_text('node = "cab12"\n')
    subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, check=True, timeout=TIMEOUT_SECONDS)


def test_the_page_names_everything_public() -> None:
    import edge_sser

    text = PAGE.read_text("utf-8")
    assert [name for name in edge_sser.__all__ if f"`{name}`" not in text and not re.search(rf"\b{name}\b", text)] == []
    assert os.path.getsize(PAGE) < 6_000
