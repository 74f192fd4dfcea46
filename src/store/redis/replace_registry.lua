-- Replaces the registry, if it is still the one that the caller saw.
-- KEYS  1 registry
-- ARGV  1 the stamp that was seen ('': none)  2 the new stamp  3 the new content
-- Reply 1 if it is replaced, now or by an earlier try; 0 if it is another

local stamp = redis.call('HGET', KEYS[1], 'stamp') or ''
if stamp == ARGV[2] then
  return 1
end
if stamp ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'stamp', ARGV[2], 'content', ARGV[3])
return 1
