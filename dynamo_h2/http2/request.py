"""What a connection is asked to send, with the limits that hold for it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from dynamo_h2.call import DEFAULT_URGENCY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dynamo_h2.http2.headers import Field, RequestHead


class Request:
    """What is asked of the peer, the same for each attempt.

    Args:
        head: The validated head.
        fields: Further validated fields, which differ from request to request.
        data: The whole body when it is in memory.
        upload: Whether a body follows through ``SendHalf.feed``.
        mutable: Whether the body's memory may change after the call, so that it is copied.
        trailers: Validated trailers.
        limit: The most bytes to buffer; None hands chunks out as they are asked for, and returns
            credit only then.
        deadline: When the whole request ends, in seconds; infinite for never.
        head_budget: Seconds for the response head once the body is sent; None where ``deadline``
            covers it.
        read_timeout: The longest silence between chunks, in seconds.
        write_timeout: The longest time without progress of the body, in seconds.
        on_informational: Gets status and fields of each 1xx response.

    Attributes:
        urgency: 0 for the most urgent to 7 for what can wait; 3 unless it is set.
    """

    __slots__ = (
        "data",
        "deadline",
        "fields",
        "head",
        "head_budget",
        "limit",
        "mutable",
        "on_informational",
        "read_timeout",
        "trailers",
        "upload",
        "urgency",
        "write_timeout",
    )

    def __init__(
        self,
        head: RequestHead,
        fields: Sequence[Field] = (),
        data: bytes | memoryview | None = None,
        upload: bool = False,
        mutable: bool = False,
        trailers: Sequence[Field] = (),
        limit: int | None = None,
        deadline: float = inf,
        head_budget: float | None = None,
        read_timeout: float = inf,
        write_timeout: float = inf,
        on_informational: Callable[[int, list[Field]], None] | None = None,
    ) -> None:
        self.head = head
        self.fields = fields
        self.data = data
        self.upload = upload
        self.urgency = DEFAULT_URGENCY
        self.mutable = mutable
        self.trailers = trailers
        self.limit = limit
        self.deadline = deadline
        self.head_budget = head_budget
        self.read_timeout = read_timeout
        self.write_timeout = write_timeout
        self.on_informational = on_informational
