-- Creates a pool, or returns the shape with which it was created.
-- KEYS  1 pool
-- ARGV  1 public-url  2 bits  3 size  4 default-status  5 final-status ('null': none)
-- Reply the stored shape, in the order of ARGV

local settings = {'public-url', 'bits', 'size', 'default-status', 'final-status'}
-- Does not check whether the hash exists: earlier versions counted in it, which created a hash without a pool.
if redis.call('HEXISTS', KEYS[1], 'size') == 0 then
  for n, setting in ipairs(settings) do
    redis.call('HSET', KEYS[1], setting, ARGV[n])
  end
  redis.call('HSET', KEYS[1], 'made', 0, 'leased', 0, 'free', 0, 'fence', 0, 'holder', '', 'held-until', 0)
end
return redis.call('HMGET', KEYS[1], unpack(settings))
