"""Where backups are kept: a directory, or a bucket of S3. Names are plain, without folders."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from kvstore.backup.parts import private
from kvstore.errors import BackupError, InvalidArgument

S3_SCHEME = "s3://"


class BackupTarget(Protocol):
    """Files by name. All methods block, and raise OSError or BackupError."""

    def names(self) -> list[str]:
        """Of all files, in order."""

    def read(self, name: str) -> bytes:
        """The whole file, which is small."""

    def fetch(self, name: str, to: Path) -> None:
        """Copy the file to `to`."""

    def write(self, name: str, data: bytes) -> None:
        """Durably, and all of it or nothing."""

    def store(self, name: str, file: Path) -> None:
        """The same with what `file` holds."""

    def remove(self, name: str) -> None:
        """It may be absent."""


def open_target(text: str) -> BackupTarget:
    """A directory, or `s3://bucket/prefix`. Raises InvalidArgument, BackupError."""
    if text.startswith(S3_SCHEME):
        return BucketTarget(text)
    return DirectoryTarget(Path(text))


class DirectoryTarget:
    """Files in a directory, which is made when something is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Files that are being written are none."""
        if not self.path.is_dir():
            return []
        return sorted(name for name in os.listdir(self.path) if not name.endswith(".part"))

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def fetch(self, name: str, to: Path) -> None:
        shutil.copyfile(self.path / name, to)

    def write(self, name: str, data: bytes) -> None:
        with self._placed(name) as part, open(part, "wb", opener=private) as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())

    def store(self, name: str, file: Path) -> None:
        with (
            self._placed(name) as part,
            open(part, "wb", opener=private) as out,
            file.open("rb") as source,
        ):
            shutil.copyfileobj(source, out)
            out.flush()
            os.fsync(out.fileno())

    @contextmanager
    def _placed(self, name: str) -> Iterator[Path]:
        """Where to write what gets its name at the end of the block."""
        self.path.mkdir(parents=True, exist_ok=True)
        part = self.path / f"{name}.part"
        try:
            yield part
            os.replace(part, self.path / name)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_directory(self.path)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)


class BucketTarget:
    """Objects below a prefix of a bucket. Credentials, region and endpoint come from where
    Amazon's own tools take them: AWS_ENDPOINT_URL names any other server."""

    def __init__(self, text: str) -> None:
        bucket, _, prefix = text.removeprefix(S3_SCHEME).partition("/")
        if not bucket:
            raise InvalidArgument("target", f"target: expected s3://bucket/prefix, got {text!r}")
        self._bucket = bucket
        self._prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        # Imported here: few need it, and it is large.
        try:
            import boto3
            from botocore.config import Config as BotoConfig
        except ImportError:
            raise BackupError(
                "backups in S3 need the package boto3: pip install 'paxos-kvstore[s3]'"
            ) from None
        config = BotoConfig(connect_timeout=10, read_timeout=60, retries={"mode": "standard"})
        with told(text):
            self._client: Any = boto3.client("s3", config=config)
        self._text = text

    def names(self) -> list[str]:
        found = []
        with told(self._text):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                found += [
                    each["Key"].removeprefix(self._prefix) for each in page.get("Contents", ())
                ]
        return sorted(name for name in found if name and "/" not in name)

    def read(self, name: str) -> bytes:
        with told(self._text):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            data: bytes = answer["Body"].read()
        return data

    def fetch(self, name: str, to: Path) -> None:
        with told(self._text):
            self._client.download_file(self._bucket, self._prefix + name, str(to))

    def write(self, name: str, data: bytes) -> None:
        with told(self._text):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data)

    def store(self, name: str, file: Path) -> None:
        with told(self._text):
            self._client.upload_file(str(file), self._bucket, self._prefix + name)

    def remove(self, name: str) -> None:
        with told(self._text):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)


@contextmanager
def told(where: str) -> Iterator[None]:
    """What the client of S3 raises, as a BackupError that names the target."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise BackupError(f"{where}: {error}") from error


def sync_directory(path: Path) -> None:
    """Make the names of files in `path` durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
