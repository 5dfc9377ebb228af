-- Make jobs known, and ring for those who wait.
--
-- KEYS[1]       the set of announced lanes
-- then for each lane:
-- KEYS[..]      its list of waiting jobs, high
-- KEYS[..]      the same, medium
-- KEYS[..]      the same, low
-- KEYS[..]      its doorbell
--
-- ARGV[1]       seconds after which a list expires that nobody adds to
-- ARGV[2]       the most elements of a list; what does not fit is left to PostgreSQL
-- ARGV[3]       the most rings that a doorbell keeps
-- then for each lane: its number, and for each of its three lists the number of elements and the elements
-- ("rank:job id"), the best rank first.

local ttl, most, most_rings = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local argument = 4

local function rank_of(element)
  return tonumber(string.match(element, '^(%-?%d+):') or '')
end

-- Push in pieces: a call takes a few thousand arguments at most.
local function push(command, key, elements)
  for first = 1, #elements, 1000 do
    redis.call(command, key, unpack(elements, first, math.min(first + 999, #elements)))
  end
end

local function reversed(elements)
  local turned = {}
  for n = #elements, 1, -1 do
    turned[#turned + 1] = elements[n]
  end
  return turned
end

-- Elements that rank before the head of the list go before it, the others to its end.
local function add(key, elements)
  local length = redis.call('LLEN', key)
  local head = length > 0 and rank_of(redis.call('LINDEX', key, 0)) or nil
  local before, after = {}, {}
  for _, element in ipairs(elements) do
    if length + #before + #after >= most then
      break
    end
    if head and rank_of(element) < head then
      before[#before + 1] = element
    else
      after[#after + 1] = element
    end
  end
  push('LPUSH', key, reversed(before))
  push('RPUSH', key, after)
  redis.call('EXPIRE', key, ttl)
end

for key = 2, #KEYS, 4 do
  local announced = 0
  redis.call('SADD', KEYS[1], ARGV[argument])
  argument = argument + 1
  for band = 0, 2 do
    local count = tonumber(ARGV[argument])
    if count > 0 then
      local elements = {}
      for n = 1, count do
        elements[n] = ARGV[argument + n]
      end
      add(KEYS[key + band], elements)
      announced = announced + count
    end
    argument = argument + count + 1
  end
  local doorbell = KEYS[key + 3]
  for _ = redis.call('LLEN', doorbell) + 1, math.min(announced, most_rings) do
    redis.call('RPUSH', doorbell, '1')
  end
  redis.call('EXPIRE', doorbell, ttl)
end
return 0
