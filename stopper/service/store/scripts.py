"""What runs inside Redis, in Lua: one step of a trace, and the exchange of a shared value.

Numbers travel as bytes, never as decimals. Lua's numbers are doubles: sums, differences and
products of two float32, rounded once to float32, are float32 arithmetic to the bit.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import get_args

from stopper.service.store.base import Advanced, Outcome, Step
from stopper.service.store.memory import MOST_STEPS

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""In the order of the numbers that the script returns."""

_STEP = struct.Struct("<IdddB")
_REPLY = struct.Struct("<BddBBiB")
_ALPHA = struct.Struct("<d")


@dataclass(frozen=True)
class Script:
    """A script and the name that Redis knows it by."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


def pack(step: Step, ttl_ms: int) -> tuple[bytes | str | int, ...]:
    """Return a step as the arguments of `ADVANCE`."""
    numbers = _STEP.pack(step.position, step.level, step.weight, step.threshold, step.audit)
    alpha = b"" if step.alpha is None else _ALPHA.pack(step.alpha)
    return numbers, alpha, step.artifact, ttl_ms, MOST_STEPS


def unpack(reply: bytes) -> Advanced:
    """Read what `ADVANCE` returned."""
    outcome, score, threshold, audit, passes, mark, size = _REPLY.unpack_from(reply)
    start, end = _REPLY.size, _REPLY.size + size
    return Advanced(
        OUTCOMES[outcome],
        score,
        threshold,
        _ALPHA.unpack(reply[start:end])[0] if size else None,
        reply[end:].decode(),
        bool(audit),
        bool(passes),
        mark >= 0,
        mark if mark >= 0 else None,
    )


ADVANCE = Script(
    """
local trace = KEYS[1]
local position, level, weight, threshold, audit = struct.unpack('<I4dddB', ARGV[1])
local alpha, artifact = ARGV[2], ARGV[3]
local huge, nan = math.huge, 0/0
local ttl_ms, most = ARGV[4], tonumber(ARGV[5])

local function f32(x)
  return (struct.unpack('<f', struct.pack('<f', x)))
end

-- The head: answers given, last position, first that passed (-1: none), minimum, audited, alpha.
local HEAD = '<I4i4i4dBB'
local given, last, mark, low = 0, -1, -1, huge
local head = redis.call('HGET', trace, 'head')
local began_alpha, began_artifact = alpha, artifact
if head then
  local size, at
  given, last, mark, low, audit, size, at = struct.unpack(HEAD, head)
  began_alpha = string.sub(head, at, at + size - 1)
  began_artifact = string.sub(head, at + size)
end

local function reply(outcome, score, bound, passes, marked)
  redis.call('PEXPIRE', trace, ttl_ms)
  return struct.pack('<BddBBi4B', outcome, score, bound, audit, passes, marked, #began_alpha)
    .. began_alpha .. began_artifact
end

-- Answers lie in a ring, their positions ascend: an old one is found by bisection.
local ANSWER = '<i4ddB'
if position <= last then
  local from, to = math.max(0, given - most), given - 1
  while from <= to do
    local middle = math.floor((from + to) / 2)
    local answer = redis.call('HGET', trace, middle % most)
    local at, score, bound, passes = struct.unpack(ANSWER, answer)
    if at == position then
      local marked = -1
      if mark >= 0 and mark <= position then marked = mark end
      return reply(1, score, bound, passes, marked)
    end
    if at < position then from = middle + 1 else to = middle - 1 end
  end
end
if artifact ~= began_artifact then return reply(3, nan, nan, 0, mark) end
if alpha ~= began_alpha then return reply(4, nan, nan, 0, mark) end
if position <= last then return reply(2, nan, nan, 0, mark) end

local score = nan
if level > -huge and level < huge then
  if weight == 0 then
    score = level
  else
    if level < low then low = level end
    local rise = f32(f32(level) - f32(low))
    score = f32(f32(level) + f32(rise * f32(weight)))
  end
end
local passes = 0
if score > -huge and score < huge and threshold < huge and score > threshold then
  passes = 1
  if mark < 0 then mark = position end
end
redis.call('HSET', trace,
  given % most, struct.pack(ANSWER, position, score, threshold, passes),
  'head', struct.pack(HEAD, given + 1, position, mark, low, audit, #alpha) .. alpha .. artifact)
return reply(0, score, threshold, passes, mark)
"""
)
"""KEYS: the trace. ARGV: see `pack`. Does what `MemoryStore` does, to the bit."""


EXCHANGE = Script(
    """
local found = redis.call('GET', KEYS[1])
local expected = ARGV[1] == '1' and ARGV[2]
if found ~= expected then return {0, found} end
if ARGV[3] == '1' then redis.call('SET', KEYS[1], ARGV[4]) else redis.call('DEL', KEYS[1]) end
return {1}
"""
)
"""KEYS: the value. ARGV: is there an old one, which; is there a new one, which.

Returns 1, or 0 and the value where it is not the expected one.
"""
