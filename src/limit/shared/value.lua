-- Reads and writes the packed value of one subject. Part of every script; version 1.
--
-- A value, little-endian: B version, B clocks, B periods, B leases; then
--   each clock:  I4 tag, d time until which everything is paid for
--   if there are periods: d time at which the first one was made ("born"), and for each: I4 tag, I4 end in seconds, d restored, d counted
--   each lease:  I4 tag, I6 node, I3 session, I4 expiry in tenths of a second, I4 requests in flight
-- Times are microseconds since 2026 by the server's clock: numbers are doubles, and these are exact to 1/32 of a microsecond until 2035.
local VERSION = 1
local LEASE = 15000000

local time = redis.call('TIME')
local now = (time[1] - 1767225600) * 1000000 + time[2]

local function read(key)
  local subject = { key = key, clocks = {}, periods = {}, leases = {}, born = nil, changed = false }
  local raw = redis.call('GET', key)
  if not raw then return subject end
  local version, clocks, periods, leases, at = struct.unpack('<BBBB', raw)
  if version ~= VERSION then error('sluicegate: a value has version ' .. version) end
  if clocks > 0 then
    local all = { struct.unpack('<' .. string.rep('I4d', clocks), raw, at) }
    for i = 1, 2 * clocks, 2 do
      if all[i + 1] > now then subject.clocks[all[i]] = all[i + 1] end
    end
    at = all[2 * clocks + 1]
  end
  if periods > 0 then
    subject.born, at = struct.unpack('<d', raw, at)
    local all = { struct.unpack('<' .. string.rep('I4I4dd', periods), raw, at) }
    for i = 1, 4 * periods, 4 do
      if all[i + 1] * 1000000 > now then
        subject.periods[all[i]] = { ends = all[i + 1], restored = all[i + 2], counted = all[i + 3] }
      end
    end
    at = all[4 * periods + 1]
  end
  if leases > 0 then
    local all = { struct.unpack('<' .. string.rep('I4I6I3I4I4', leases), raw, at) }
    for i = 1, 5 * leases, 5 do
      local lease = { tag = all[i], node = all[i + 1], session = all[i + 2], expiry = all[i + 3] * 100000, count = all[i + 4] }
      if lease.expiry > now then subject.leases[#subject.leases + 1] = lease end
    end
  end
  return subject
end

local function write(subject)
  local form, out, ends = { '<BBBB' }, { VERSION, 0, 0, 0 }, 0
  for tag, arrival in pairs(subject.clocks) do
    if arrival > now then
      out[2] = out[2] + 1
      form[#form + 1] = 'I4d'
      out[#out + 1] = tag
      out[#out + 1] = arrival
      if arrival > ends then ends = arrival end
    end
  end
  if next(subject.periods) then
    form[#form + 1] = 'd'
    out[#out + 1] = subject.born
    for tag, period in pairs(subject.periods) do
      out[3] = out[3] + 1
      form[#form + 1] = 'I4I4dd'
      out[#out + 1] = tag
      out[#out + 1] = period.ends
      out[#out + 1] = period.restored
      out[#out + 1] = period.counted
      if period.ends * 1000000 > ends then ends = period.ends * 1000000 end
    end
  end
  for _, lease in ipairs(subject.leases) do
    if lease.count > 0 and out[4] < 255 then
      local expiry = math.ceil(lease.expiry / 100000)
      out[4] = out[4] + 1
      form[#form + 1] = 'I4I6I3I4I4'
      out[#out + 1] = lease.tag
      out[#out + 1] = lease.node
      out[#out + 1] = lease.session
      out[#out + 1] = expiry
      out[#out + 1] = lease.count
      if lease.expiry > ends then ends = lease.expiry end
    end
  end
  if ends == 0 then
    redis.call('DEL', subject.key)
  else
    redis.call('SET', subject.key, struct.pack(table.concat(form), unpack(out)), 'PX', string.format('%.0f', math.ceil((ends - now) / 1000) + 1))
  end
end

-- The period that ends at `ends`, or a later one: a gateway whose clock is behind does not bring an earlier period back.
local function period_of(subject, tag, ends)
  local period = subject.periods[tag]
  if not period or period.ends < ends then
    period = { ends = ends, restored = 0, counted = 0 }
    subject.periods[tag] = period
    subject.born = subject.born or now
  end
  return period
end

-- A value that is younger than the one that a gateway has seen has lost what it had counted: the most that any gateway has seen is restored.
-- `born` is negative when the server is another one than before, whose copy may be older.
local function restore(subject, period, seen, born)
  if seen <= 0 then return end
  local least = period.restored
  if subject.born ~= math.abs(born) then
    least = seen
  elseif born < 0 then
    least = seen - period.counted
  end
  if least > period.restored then
    period.restored = least
    subject.changed = true
  end
end

local function sum(period)
  return math.max(0, period.restored + period.counted)
end

local function lease_of(subject, tag, node)
  local others, own = 0, nil
  for _, lease in ipairs(subject.leases) do
    if lease.tag == tag then
      if lease.node == node then own = lease else others = others + lease.count end
    end
  end
  return own, others
end

local function renew(subject, own, tag, node, session, count)
  if not own then
    own = { tag = tag, node = node }
    subject.leases[#subject.leases + 1] = own
  end
  own.session, own.expiry, own.count = session, now + LEASE, count
  subject.changed = true
end
