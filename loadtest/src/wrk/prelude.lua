-- The Lua part of a script's table `wrk`: functions that a script may call or replace.
local wrk, authority = ...

wrk.method = "GET"
wrk.headers = wrk.headers or {}

-- Formats a request. Missing arguments come from `wrk`.
function wrk.format(method, path, headers, body)
   headers = headers or wrk.headers
   body = body or wrk.body
   headers["Host"] = headers["Host"] or wrk.headers["Host"]
   -- A body that the script has put into chunks has no length.
   headers["Content-Length"] = not headers["Transfer-Encoding"] and body and #body or nil
   local head = { (method or wrk.method) .. " " .. (path or wrk.path) .. " HTTP/1.1" }
   for name, value in pairs(headers) do
      head[#head + 1] = name .. ": " .. tostring(value)
   end
   return table.concat(head, "\r\n") .. "\r\n\r\n" .. (body or "")
end

-- Called once per thread before any of them runs, in a separate state.
function wrk.setup(thread)
   if type(setup) == "function" then setup(thread) end
end

-- Called once in each thread's own state. Without a `request` function the same request is sent each time.
function wrk.init(arguments)
   wrk.headers["Host"] = wrk.headers["Host"] or authority
   if type(init) == "function" then init(arguments) end
   local request = wrk.format()
   function wrk.request() return request end
end
