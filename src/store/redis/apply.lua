-- Sets statuses: each request all or nothing, in order, all of them in one atomic step. A change to another status than that of
-- a list's spread first completes the spread: the latest request must win. An expected status is compared with what is stored
-- before its request.
-- KEYS  1 dirty  2 spreads  then for each list its hash and its bytes
-- ARGV  1 now (ms)  2 bits per entry  3 final status ('': none)  4 bytes of an array  5 default status
--       6 whether any change has an expected status (0, 1)
--       7.. for each request: its number of changes, then for each change: number of the list (from 1), bit offset, value;
--       with an expected status, 256 times (that status + 1) is added to the value
--       Values are relative to the pool's default status, so that missing bytes mean the default.
-- Reply two numbers for each request: its outcome, and the change that caused it (from 1):
--       0 applied, 1 no such list, 2 the list was retired, 3 the final status would be left,
--       4 + status: this status is stored, another was expected

local now, width, final, length = ARGV[1], 'u' .. ARGV[2], ARGV[3], tonumber(ARGV[4])
local lists = (#KEYS - 2) / 2
local expecting = ARGV[6] == '1'
local FIRST = 7
-- Lua's stack holds 8000 values; each operation takes up to four.
local OPERATIONS_MAX = 4 * 1000

local function hash_of(list) return KEYS[2 * list + 1] end
local function bytes_of(list) return KEYS[2 * list + 2] end
-- The key of a list ends with its id.
local function id_of(list) return string.match(hash_of(list), '[^:]+$') end

local function bitfield(list, operations)
  local replies = {}
  for first = 1, #operations, OPERATIONS_MAX do
    local last = math.min(first + OPERATIONS_MAX - 1, #operations)
    for _, reply in ipairs(redis.call('BITFIELD', bytes_of(list), unpack(operations, first, last))) do
      replies[#replies + 1] = reply
    end
  end
  return replies
end

local APPLIED, NO_SUCH_LIST, RETIRED, FINAL, NOT_EXPECTED = 0, 1, 2, 3, 4

-- The lists that take no changes, and why; the values of those that have a spread; and those of which no entry has the final
-- status. `no-final` is the version of which that is known: later changes by other programs, which do not raise it, void it.
local closed, spreads, without_final = {}, {}, {}
for list = 1, lists do
  local version, retired, spread, no_final =
    unpack(redis.call('HMGET', hash_of(list), 'version', 'retired', 'spread', 'no-final'))
  without_final[list] = no_final and no_final == version
  closed[list] = (not version and NO_SUCH_LIST) or (retired == '1' and RETIRED) or nil
  if spread then
    spreads[list] = bit.bxor(tonumber(string.match(spread, '^%d+')), tonumber(ARGV[5]))
  end
end

-- A byte in which every entry has this value.
local function byte_of(value)
  local byte = 0
  for _ = 1, 8 / tonumber(ARGV[2]) do
    byte = byte * 2 ^ tonumber(ARGV[2]) + value
  end
  return string.char(byte)
end

-- The stored values of the named entries, where they matter.
local stored = {}
local knows = final ~= '' or expecting
if knows then
  local offsets = {}
  local at = FIRST
  while at <= #ARGV do
    for _ = 1, tonumber(ARGV[at]) do
      local list, offset = tonumber(ARGV[at + 1]), ARGV[at + 2]
      offsets[list] = offsets[list] or {}
      stored[list] = stored[list] or {}
      if not stored[list][offset] then
        stored[list][offset] = 0
        table.insert(offsets[list], offset)
      end
      at = at + 3
    end
    at = at + 1
  end
  for list, named in pairs(offsets) do
    -- A multiple of three in each call, so that no operation is split.
    for first = 1, #named, 1000 do
      local gets = {}
      for n = first, math.min(first + 999, #named) do
        gets[#gets + 1] = 'GET'
        gets[#gets + 1] = width
        gets[#gets + 1] = named[n]
      end
      for n, value in ipairs(redis.call('BITFIELD', bytes_of(list), unpack(gets))) do
        stored[list][named[first + n - 1]] = value
      end
    end
  end
  final = tonumber(final)
end

local replies, sets, overruled = {}, {}, {}
-- Which entries an earlier request set: a completed spread leaves them.
local written = {}

-- Compares the request at this place with what stands. Returns its outcome, of which change, and the values without what was
-- expected.
local function compare(at, changes)
  local values = {}
  for change = 1, changes do
    local base = at + 3 * change - 2
    local list, offset, packed = tonumber(ARGV[base]), ARGV[base + 1], tonumber(ARGV[base + 2])
    values[change] = packed % 256
    if packed >= 256 then
      if closed[list] then
        return closed[list], change, values
      end
      local standing = stored[list][offset]
      if overruled[list] and not (written[list] and written[list][offset]) then
        standing = spreads[list]
      end
      if standing ~= math.floor(packed / 256) - 1 then
        return NOT_EXPECTED + standing, change, values
      end
    end
  end
  return APPLIED, 0, values
end

local at = FIRST
while at <= #ARGV do
  local changes, outcome, which, undo, values = tonumber(ARGV[at]), APPLIED, 0, {}, nil
  if expecting then
    outcome, which, values = compare(at, changes)
  end
  for change = 1, outcome == APPLIED and changes or 0 do
    local base = at + 3 * change - 2
    local list, offset, value = tonumber(ARGV[base]), ARGV[base + 1], values and values[change] or tonumber(ARGV[base + 2])
    if closed[list] then
      outcome, which = closed[list], change
      break
    end
    if knows then
      local old = stored[list][offset]
      if final and value ~= final and (old == final or spreads[list] == final) then
        outcome, which = FINAL, change
        break
      end
      undo[#undo + 1] = {list, offset, old}
      stored[list][offset] = value
    end
  end
  if outcome == APPLIED then
    for change = 1, changes do
      local base = at + 3 * change - 2
      local list, value = tonumber(ARGV[base]), values and values[change] or ARGV[base + 2]
      local operations = sets[list] or {}
      sets[list] = operations
      operations[#operations + 1] = 'SET'
      operations[#operations + 1] = width
      operations[#operations + 1] = ARGV[base + 1]
      operations[#operations + 1] = value
      without_final[list] = without_final[list] and tonumber(value) ~= final
      overruled[list] = overruled[list] or (spreads[list] and spreads[list] ~= tonumber(value))
      if expecting then
        written[list] = written[list] or {}
        written[list][ARGV[base + 1]] = true
      end
    end
  else
    for n = #undo, 1, -1 do
      local list, offset, old = unpack(undo[n])
      stored[list][offset] = old
    end
  end
  replies[#replies + 1] = outcome
  replies[#replies + 1] = which
  at = at + 1 + 3 * changes
end

for list, operations in pairs(sets) do
  if overruled[list] then
    -- Doubled again and again: `string.rep` adds byte after byte.
    local bytes = byte_of(spreads[list])
    while #bytes < length do
      bytes = bytes .. bytes
    end
    redis.call('SET', bytes_of(list), string.sub(bytes, 1, length))
    redis.call('HDEL', hash_of(list), 'spread')
    redis.call('SREM', KEYS[2], id_of(list))
  elseif redis.call('STRLEN', bytes_of(list)) == 0 then
    -- In its full length at once: growing would leave up to as much again unused.
    redis.call('SETRANGE', bytes_of(list), length - 1, '\0')
  end
  bitfield(list, operations)
  local version = redis.call('HINCRBY', hash_of(list), 'version', 1)
  if without_final[list] then
    redis.call('HSET', hash_of(list), 'no-final', version)
  end
  redis.call('ZADD', KEYS[1], 'NX', now, id_of(list))
end
return replies
