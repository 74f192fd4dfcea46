-- POST for one reference; the path comes from the URL, the key from the command line (-H).

dofile("report.lua")

wrk.method = "POST"
