-- Leases positions of a list to its owner alone.
-- KEYS  1 pool  2 open  3 list
-- ARGV  1 list id  2 owner  3 most positions  4 the latest lease that the owner ever had  5 now (ms)
-- Reply {'block', from, to, lease, permutation key}, {'nothing'}, or {'behind', lease} if leases were lost

local list = redis.call('HMGET', KEYS[3], 'owner', 'lease', 'leased', 'open', 'key')
local owner, lease, leased, open, key = unpack(list)
if owner ~= ARGV[2] then
  return {'nothing'}
end
if tonumber(lease) < tonumber(ARGV[4]) then
  return {'behind', tonumber(lease)}
end
local from, size = tonumber(leased), tonumber(redis.call('HGET', KEYS[1], 'size'))
local to = math.min(from + tonumber(ARGV[3]), size)
if open ~= '1' or to == from then
  return {'nothing'}
end
redis.call('HINCRBY', KEYS[1], 'leased', to - from)
redis.call('HINCRBY', KEYS[1], 'free', from - to)
redis.call('HSET', KEYS[3], 'leased', to, 'leased-at', ARGV[5])
lease = redis.call('HINCRBY', KEYS[3], 'lease', 1)
if to == size then
  redis.call('HSET', KEYS[3], 'open', 0)
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return {'block', from, to, lease, key}
