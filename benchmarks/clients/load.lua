-- Closed-loop load for wrk: random picks from requests that were built beforehand.
--
--   wrk -t1 -cN -dNs -s load.lua URL -- REQUEST_FILE SEED
--
-- REQUEST_FILE holds whole HTTP requests, each preceded by its length in bytes and a newline
-- (benchmarks/clients/traffic.py writes it), so that a request costs the client one table look-up.
-- Prints one line "JSON {...}" with the counts and the latency histogram in microseconds.

local prepared = {}

function init(args)
   local file = assert(io.open(args[1], "rb"))
   local data = file:read("*a")
   file:close()
   local position = 1
   while position <= #data do
      local length, start = data:match("^(%d+)\n()", position)
      prepared[#prepared + 1] = data:sub(start, start + length - 1)
      position = start + length
   end
   math.randomseed(tonumber(args[2]))
end

function request()
   return prepared[math.random(#prepared)]
end

function done(summary, latency, requests)
   local errors = summary.errors
   local buckets = {}
   for i = 1, #latency do
      local value, count = latency(i)
      buckets[i] = string.format("[%d,%d]", tonumber(value), tonumber(count))
   end
   print(string.format(
      'JSON {"requests":%d,"duration_us":%d,"bad_status":%d,"socket_errors":%d,"histogram":[%s]}',
      summary.requests, summary.duration, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      table.concat(buckets, ",")))
end
