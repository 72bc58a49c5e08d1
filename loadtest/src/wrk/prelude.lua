-- The table `wrk` of a script, as far as it is Lua: what a script may call, and may replace.
local wrk, authority = ...

wrk.method = "GET"
wrk.headers = wrk.headers or {}

-- A request, as it goes over the wire. What is not given is taken from `wrk`.
function wrk.format(method, path, headers, body)
   headers = headers or wrk.headers
   body = body or wrk.body
   headers["Host"] = headers["Host"] or wrk.headers["Host"]
   headers["Content-Length"] = body and #body
   local head = { (method or wrk.method) .. " " .. (path or wrk.path) .. " HTTP/1.1" }
   for name, value in pairs(headers) do
      head[#head + 1] = name .. ": " .. tostring(value)
   end
   return table.concat(head, "\r\n") .. "\r\n\r\n" .. (body or "")
end

-- Called once for each thread, before any of them runs, in a state that they do not have.
function wrk.setup(thread)
   if type(setup) == "function" then setup(thread) end
end

-- Called once in each thread's own state. Whoever defines no `request` sends the same one each time.
function wrk.init(arguments)
   wrk.headers["Host"] = wrk.headers["Host"] or authority
   if type(init) == "function" then init(arguments) end
   local request = wrk.format()
   function wrk.request() return request end
end
