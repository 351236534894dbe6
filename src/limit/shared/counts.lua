-- Periods and leases of a value. Part of the scripts that need them.

-- The place of the period that ends at `ends`, or of a later one: a gateway whose clock is behind does not bring an earlier period back.
local function period_of(s, tag, ends)
  local p = s.p
  if not p then
    p = {}
    if s.periods > 0 then
      s.born = take('<d', s.raw, s.p_at)
      p = { take('<' .. rep('I4I4dd', s.periods), s.raw, s.p_at + 8) }
    end
    s.p, s.pn = p, 4 * s.periods
  end
  local at = 1
  while at <= s.pn and p[at] ~= tag do at = at + 4 end
  local is_new = at > s.pn
  if is_new then s.pn, s.grown = at + 3, true end
  if is_new or p[at + 1] < ends then p[at], p[at + 1], p[at + 2], p[at + 3] = tag, ends, 0, 0 end
  s.born = s.born or now
  if p[at + 1] * 10 > s.ends then s.ends = p[at + 1] * 10 end
  return p, at
end

-- A value that is younger than the one that a gateway has seen has lost what it had counted: the most that any gateway has seen is restored.
-- `born` is negative when the server is another one than before, whose copy may be older.
local function restore(s, p, at, seen, born)
  if seen <= 0 then return end
  local least = p[at + 2]
  if s.born ~= math.abs(born) then
    least = seen
  elseif born < 0 then
    least = seen - p[at + 3]
  end
  if least > p[at + 2] then p[at + 2], s.changed = least, true end
end

-- The place of the gateway's lease, if it has not ended, and the requests of others.
local function lease_of(s, tag, node)
  local l = s.l
  if not l then
    l = s.leases > 0 and { take('<' .. rep('I4I6I4I4', s.leases), s.raw, s.l_at) } or {}
    s.l, s.ln = l, 4 * s.leases
  end
  local own, others = nil, 0
  for at = 1, s.ln, 4 do
    if l[at] == tag and l[at + 2] * 100000 > now then
      if l[at + 1] == node then own = at else others = others + l[at + 3] end
    end
  end
  return l, own, others
end

local function renew(s, own, tag, node, count)
  local l = s.l
  if not own then
    own = s.ln + 1
    s.ln, s.grown = s.ln + 4, true
    l[own], l[own + 1] = tag, node
  end
  local expiry = math.ceil((now + LEASE) / 100000)
  l[own + 2], l[own + 3], s.changed = expiry, count, true
  if expiry > s.ends then s.ends = expiry end
end
