"""Options of `edge-sser analyze` for archives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="Write Parquet there; a second call goes on (extra: archive)."),
]
RecursiveOption = Annotated[bool, typer.Option("--recursive", help="With --out: also the folders in folders.")]
TimesOption = Annotated[
    str | None,
    typer.Option(
        "--times",
        metavar="RULE",
        help="With --out, when recordings began: modified (the default), metadata, or a pattern of names, as "
        "%Y%m%d_%H%M%S.",
    ),
]
DaskOption = Annotated[
    str | None, typer.Option("--dask", metavar="ADDRESS", help="With --out: analyse on a Dask cluster.")
]
