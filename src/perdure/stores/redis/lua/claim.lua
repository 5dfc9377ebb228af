-- Take the best ranked jobs of some lanes, all at once, and note them in the processing list of the taker.
--
-- KEYS[1]       the processing list of the taker; what an earlier call left there is forgotten
-- KEYS[2]       the set of the processes of its worker
-- then for each lane:
-- KEYS[..]      its list of waiting jobs, high
-- KEYS[..]      the same, medium
-- KEYS[..]      the same, low
-- KEYS[..]      its doorbell, silenced when nothing is left to ring for
--
-- ARGV[1]       the most jobs to take
-- ARGV[2]       the number of the process
-- ARGV[3]       seconds after which the processing list expires
--
-- Gives pairs, the best rank first: which list (1 for KEYS[3]), and the element ("rank:job id").

local limit, ttl = tonumber(ARGV[1]), tonumber(ARGV[3])
local FIRST_LIST = 3
-- Read piece by piece: most lists are empty or lose the comparison.
local PIECE = 64

-- Anything that is no element comes out first, so that it cannot lie in the way; the taker drops it.
local function rank_of(element)
  return tonumber(string.match(element, '^(%-?%d+):') or '') or -math.huge
end

local function read_on(stream)
  stream.elements = redis.call('LRANGE', stream.key, stream.read, stream.read + PIECE - 1)
  stream.read = stream.read + #stream.elements
  stream.at = 1
  stream.element = stream.elements[1]
  stream.rank = stream.element and rank_of(stream.element)
end

local streams = {}
for key = FIRST_LIST, #KEYS do
  if (key - FIRST_LIST) % 4 < 3 then
    local stream = { key = KEYS[key], number = key - FIRST_LIST + 1, read = 0, taken = 0 }
    read_on(stream)
    if stream.element then
      streams[#streams + 1] = stream
    end
  end
end

local found, taken = {}, {}
while #taken < limit and #streams > 0 do
  local best = 1
  for n = 2, #streams do
    if streams[n].rank < streams[best].rank then
      best = n
    end
  end
  local stream = streams[best]
  found[#found + 1] = stream.number
  found[#found + 1] = stream.element
  taken[#taken + 1] = stream.element
  stream.taken = stream.taken + 1
  stream.at = stream.at + 1
  stream.element = stream.elements[stream.at]
  if stream.element then
    stream.rank = rank_of(stream.element)
  else
    read_on(stream)
    if not stream.element then
      redis.call('DEL', stream.key)
      table.remove(streams, best)
    end
  end
end

for _, stream in ipairs(streams) do
  if stream.taken > 0 then
    redis.call('LPOP', stream.key, stream.taken)
  end
end
redis.call('DEL', KEYS[1])
for first = 1, #taken, 1000 do
  redis.call('RPUSH', KEYS[1], unpack(taken, first, math.min(first + 999, #taken)))
end
if #taken > 0 then
  redis.call('EXPIRE', KEYS[1], ttl)
  redis.call('SADD', KEYS[2], ARGV[2])
  redis.call('EXPIRE', KEYS[2], ttl)
end
if #streams == 0 then
  for key = FIRST_LIST + 3, #KEYS, 4 do
    redis.call('DEL', KEYS[key])
  end
end
return found
