"""Values that leave the process: pickles, signed so that only this app's own are ever loaded."""

import hashlib
import hmac
import logging
import pickle
from collections.abc import Iterable, Mapping
from typing import Any

logger = logging.getLogger(__name__)

_SIZE = hashlib.sha256().digest_size


class Signer:
    """Turns values into signed bytes and back.

    A pickle runs code when it is loaded, so whoever can write to the cache's server or file could
    run code here. The signature (HMAC-SHA256, RFC 2104) is checked before anything is unpickled,
    and covers the key, so that a stored value cannot be moved to stand under another key.

    `secrets` are the app's secret keys: the first signs, any of them verifies.
    """

    def __init__(self, secrets: Iterable[str | bytes]) -> None:
        # A derived key: what signs cached values signs nothing else, sessions least of all.
        self._keys = [
            hmac.digest(s.encode() if isinstance(s, str) else s, b"cached values", "sha256")
            for s in secrets
        ]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Signer":
        """Return the signer for an app's SECRET_KEY and SECRET_KEY_FALLBACKS."""
        return cls([config["SECRET_KEY"], *(config.get("SECRET_KEY_FALLBACKS") or [])])

    def dumps(self, key: str, value: Any) -> bytes | int:
        """Return the bytes to store for `value` under `key`; integers stay bare, to be counted on.

        Raises what pickle raises for a value that cannot be pickled.
        """
        if type(value) is int and -(2**63) <= value < 2**63:
            return value
        pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        return self._sign(self._keys[0], key, pickled) + pickled

    def loads(self, key: str, stored: bytes | int | None) -> Any:
        """Return the value that `dumps` stored under `key`; None, a miss, for anything else."""
        if stored is None or isinstance(stored, int):
            return stored
        signature, pickled = stored[:_SIZE], stored[_SIZE:]
        if not any(hmac.compare_digest(signature, self._sign(k, key, pickled)) for k in self._keys):
            logger.warning("A cached value does not verify and counts as a miss: %s", key)
            return None
        try:
            return pickle.loads(pickled)
        except Exception:  # what an older release stored may raise anything at all
            logger.warning("A cached value cannot be read and counts as a miss: %s", key)
            return None

    @staticmethod
    def _sign(secret: bytes, key: str, pickled: bytes) -> bytes:
        # The length keeps the boundary between key and pickle where it was.
        name = key.encode("utf-8", "surrogatepass")
        return hmac.digest(secret, b"%d:%s%s" % (len(name), name, pickled), "sha256")
