-- GET; headers come from the command line (-H).

dofile("report.lua")
