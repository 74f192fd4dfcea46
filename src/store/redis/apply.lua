-- Sets statuses: each request all or nothing, in order, all of them in one atomic step. A change to another status than that of
-- a list's spread first completes the spread: the latest request must win.
-- KEYS  1 dirty  2 spreads  then for each list its hash and its bytes
-- ARGV  1 now (ms)  2 bits per entry  3 final status ('': none)  4 bytes of an array  5 default status
--       6.. for each request: its number of changes, then for each change: number of the list (from 1), bit offset, value
--       Values are relative to the pool's default status, so that missing bytes mean the default.
-- Reply two numbers for each request: its outcome, and the change that caused it (from 1):
--       0 applied, 1 no such list, 2 the list was retired, 3 the final status would be left

local now, width, final, length = ARGV[1], 'u' .. ARGV[2], ARGV[3], tonumber(ARGV[4])
local lists = (#KEYS - 2) / 2
local FIRST = 6
-- Lua's stack holds 8000 values; each operation takes up to four.
local OPERATIONS_MAX = 4 * 1000

local function hash_of(list) return KEYS[2 * list + 1] end
local function bytes_of(list) return KEYS[2 * list + 2] end
-- The key of a list ends with its id.
local function id_of(list) return string.sub(hash_of(list), -36) end

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

local APPLIED, NO_SUCH_LIST, RETIRED, FINAL = 0, 1, 2, 3

-- The lists that take no changes, and why; and the values of those that have a spread.
local closed, spreads = {}, {}
for list = 1, lists do
  local version, retired, spread = unpack(redis.call('HMGET', hash_of(list), 'version', 'retired', 'spread'))
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
if final ~= '' then
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
local at = FIRST
while at <= #ARGV do
  local changes, outcome, which, undo = tonumber(ARGV[at]), APPLIED, 0, {}
  for change = 1, changes do
    local base = at + 3 * change - 2
    local list, offset, value = tonumber(ARGV[base]), ARGV[base + 1], tonumber(ARGV[base + 2])
    if closed[list] then
      outcome, which = closed[list], change
      break
    end
    if final ~= '' then
      local old = stored[list][offset]
      if value ~= final and (old == final or spreads[list] == final) then
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
      local list = tonumber(ARGV[base])
      local operations = sets[list] or {}
      sets[list] = operations
      operations[#operations + 1] = 'SET'
      operations[#operations + 1] = width
      operations[#operations + 1] = ARGV[base + 1]
      operations[#operations + 1] = ARGV[base + 2]
      overruled[list] = overruled[list] or (spreads[list] and spreads[list] ~= tonumber(ARGV[base + 2]))
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
    redis.call('SET', bytes_of(list), string.rep(byte_of(spreads[list]), length))
    redis.call('HDEL', hash_of(list), 'spread')
    redis.call('SREM', KEYS[2], id_of(list))
  elseif redis.call('STRLEN', bytes_of(list)) == 0 then
    -- In its full length at once: growing would leave up to as much again unused.
    redis.call('SETRANGE', bytes_of(list), length - 1, '\0')
  end
  bitfield(list, operations)
  redis.call('HINCRBY', hash_of(list), 'version', 1)
  redis.call('ZADD', KEYS[1], 'NX', now, id_of(list))
end
return replies
