-- Precedes every script: a write that arrives after its deadline changes nothing.
-- ARGV  the last one: the deadline by this server's clock (ms). It is removed, so that the script sees only its own arguments.
do
  local time = redis.call('TIME')
  if tonumber(table.remove(ARGV)) < tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) then
    return redis.error_reply('LATE the deadline of this write has passed')
  end
end

