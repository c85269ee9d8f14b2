-- One bucket of the generic cell rate algorithm, as `Rate::take` in limits.rs, by Redis's own clock.
-- KEYS[1]: the bucket. ARGV: what the request costs, and the time in which an empty bucket fills; microseconds.
-- Gives when the bucket would have been full again before the request, and the time; microseconds since 1970, which a
-- number of Lua's holds exactly. Whether the request fitted follows from that.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local cost, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1])) or now
full = math.min(math.max(full, now), now + window)
local after = full + cost
if after <= now + window then
  -- A full bucket is as good as none, and vanishes.
  redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
end
return {full, now}
