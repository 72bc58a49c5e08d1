-- Writes the percentiles of the latency as CSV, to the file that is named after `--`, else to stdout.
--
--     wrk -s percentiles-csv.lua http://127.0.0.1:8084/ -- latency.csv

local threads = {}

-- Called for each thread before it starts, in a copy of the script that no thread runs: the one that `done` runs in.
function setup(thread)
   table.insert(threads, thread)
end

-- Called once on each thread. The arguments after `--` come here, and nowhere else.
function init(arguments)
   file = arguments[1]
end

-- Called once at the end. Latencies are in microseconds.
function done(summary, latency, requests)
   -- A global of a thread is read through its handle.
   local name = threads[1]:get("file")
   local out = name and assert(io.open(name, "w")) or io.stdout
   out:write("percentile,latency_us\n")
   for _, percentile in ipairs({ 50, 75, 90, 99, 99.9, 99.99 }) do
      out:write(string.format("%g,%d\n", percentile, latency:percentile(percentile)))
   end
   out:write(string.format("100,%d\n", latency.max))
   if name then
      out:close()
   end
end
