"""Tables `[[notify]]`: commands, webhooks and Apprise services that are told of episodes and health."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import datetime, time, timedelta
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from edge_sser.events import Episode, Health, Level, Word
from edge_sser.settings.section import Section

TEXT_FIELD = "text"  # of a message, beside the fields of the event: one line for a person
MESSAGE_FIELDS = frozenset({TEXT_FIELD, *(field.name for kind in (Episode, Health) for field in fields(kind))})
WAYS = ("command", "url", "url_file", "apprise_file")


class NotifyEvent(Word):
    """Events that are told."""

    START = "start"
    """An episode begins, or reaches `level`."""
    END = "end"
    """An episode that was told has ended."""
    HEALTH = "health"
    """A source has another health than the one told last."""


class NotifySettings(Section):
    """A person or program to tell. Secrets stand in files or systemd credentials."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    """Name in the log, and of the queue on disk; different in each table."""
    command: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Program and arguments, run without a shell. It gets the message as JSON on standard input."""
    url: SecretStr | None = None
    """Webhook: the message is sent there as JSON by POST. For a URL that holds a secret use `url_file`."""
    url_file: Path | None = None
    """A file whose first line is the URL. A relative path is the name of a systemd credential."""
    token_file: Path | None = None
    """A file whose first line is sent as a bearer token; relative as for `url_file`."""
    ca_file: Path | None = None
    """Certificates of the authority that signed the server's (PEM); the system's authorities when not given."""
    template: str | None = Field(default=None, max_length=4096)
    """JSON to send in place of the message, with $text, $source, $level and the other fields of the event in it."""
    apprise_file: Path | None = None
    """A file with URLs of Apprise, one a line; relative as for `url_file`."""
    events: tuple[NotifyEvent, ...] = Field(default=tuple(NotifyEvent), min_length=1)
    """start, end (of an episode), health."""
    level: Level = Level.ELEVATED
    """Level from which an episode is told: elevated or high."""
    quiet_hours: str | None = None
    """Local time without notifications, as 22:00-07:00. Episodes are left out; health is told afterwards."""
    min_interval_seconds: float = Field(default=0.0, ge=0.0, le=86_400.0)
    """Least time between two episodes that are told, and between two changes of health, of one source."""
    timeout_seconds: float = Field(default=10.0, ge=0.5, le=300.0)
    """Time for a command to end, or for a server to answer."""
    retry_max_seconds: float = Field(default=300.0, ge=1.0, le=86_400.0)
    """Longest wait between attempts; the first is 2 s, and it doubles."""
    max_age_seconds: float = Field(default=86_400.0, ge=1.0, le=2_592_000.0)
    """Age beyond which a message that could not be delivered is given up."""

    @field_validator("url")
    @classmethod
    def _web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_url(value.get_secret_value())
            if urlsplit(value.get_secret_value()).password is not None:
                raise ValueError("has a password in it: put it in a file and name that as url_file or token_file")
        return value

    @field_validator("template")
    @classmethod
    def _makes_json(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                json.loads(Template(value).substitute(dict.fromkeys(MESSAGE_FIELDS, "a")))
            except KeyError as error:
                raise ValueError(f"has ${error.args[0]}, which no message has: use $text, $source, $level") from None
            except ValueError as error:
                raise ValueError(f'is not JSON when the fields are put in ({error}): quote them, as "$text"') from None
        return value

    @field_validator("quiet_hours")
    @classmethod
    def _hours(cls, value: str | None) -> str | None:
        if value is not None:
            QuietHours.parse(value)
        return value

    @model_validator(mode="after")
    def _one_way(self) -> NotifySettings:
        if sum(getattr(self, way) is not None for way in WAYS) != 1:
            raise ValueError(f"expected one of {', '.join(WAYS)}")
        if self.url is None and self.url_file is None:
            extra = next((key for key in ("token_file", "ca_file", "template") if getattr(self, key) is not None), None)
            if extra is not None:
                raise ValueError(f"{extra} goes with url or url_file")
        if self.level is Level.LOW:
            raise ValueError("level must be elevated or high")
        return self


class QuietHours:
    """Hours of the day, in local time, possibly over midnight.

    Args:
        begin: of the hours.
        end: likewise, not included.
    """

    def __init__(self, begin: time, end: time) -> None:
        self._begin, self._end = begin, end

    @classmethod
    def parse(cls, text: str) -> QuietHours:
        """Parses `22:00-07:00`.

        Raises:
            ValueError: the text has another form.
        """
        match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", text)
        if match is None or match.groups()[:2] == match.groups()[2:]:
            raise ValueError("must be two times of day, as 22:00-07:00")
        begin_hour, begin_minute, end_hour, end_minute = map(int, match.groups())
        return cls(time(begin_hour, begin_minute), time(end_hour, end_minute))

    def seconds_left(self, now: datetime) -> float:
        """Returns the seconds until the hours end; 0 outside of them.

        Args:
            now: local time.
        """
        clock = now.time().replace(tzinfo=None)
        overnight = self._begin > self._end
        inside = clock >= self._begin or clock < self._end if overnight else self._begin <= clock < self._end
        if not inside:
            return 0.0
        end = now.replace(hour=self._end.hour, minute=self._end.minute, second=0, microsecond=0)
        return ((end if end > now else end + timedelta(days=1)) - now).total_seconds()


def check_url(url: str) -> None:
    """Checks the form of a webhook's URL.

    Raises:
        ValueError: it has another form. The message never repeats the URL, which may hold a secret.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(not char.isprintable() or char.isspace() for char in url):
        raise ValueError("must look like https://host/path")
