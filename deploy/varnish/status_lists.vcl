# Varnish as a node in front of the lists: nginx or the service is its origin. Start it for example with
#   varnishd -a :80 -f /etc/varnish/status_lists.vcl -s malloc,1g
#
# A list has one address for ever and changes at each publication. Answers are kept for as long as their Cache-Control says, a beat; so
# nothing has to be purged. Each node asks the origin once in that time for each list and format, whatever its clients send, and by
# ETag, so that an unchanged list is not sent again.

vcl 4.1;

import std;

backend origin {
    # The address of the lists.
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2s;
    .first_byte_timeout = 10s;
    .probe = {
        # Every site has this file. Its path is that of `public-url`.
        .url = "/lists/jwks.json";
        .interval = 5s;
        .timeout = 2s;
        .window = 3;
        .threshold = 2;
        .initial = 2;
    }
}

sub vcl_recv {
    if (req.method == "OPTIONS") {
        return (pass);
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (synth(405));
    }
    # No answer depends on who asks.
    unset req.http.Cookie;
    unset req.http.Authorization;
    unset req.http.X-Api-Key;
    # Earlier lists, of pools with history.
    if (req.url ~ "[?&]time=") {
        return (pass);
    }
    # No other query changes an answer, but each would be an entry of its own.
    set req.url = regsub(req.url, "\?.*$", "");
    # Clients spell the same wish in many ways, and the origin's answers vary with it. Unusual wishes stay as they are.
    if (!req.http.Accept || req.http.Accept == "*/*") {
        set req.http.Accept = "application/statuslist+jwt";
    } elsif (req.http.Accept !~ "q=0(\.0*)?\s*(,|$)" && req.http.Accept !~ "statuslist\+(json|cbor)") {
        if (req.http.Accept ~ "statuslist\+jwt" && req.http.Accept !~ "statuslist\+cwt") {
            set req.http.Accept = "application/statuslist+jwt";
        } elsif (req.http.Accept ~ "statuslist\+cwt" && req.http.Accept !~ "statuslist\+jwt") {
            set req.http.Accept = "application/statuslist+cwt";
        }
    }
    # While the origin answers, an old copy is sent only while a new one is being fetched. This is the time in
    # `stale-while-revalidate` of the origin: a beat.
    if (std.healthy(req.backend_hint)) {
        set req.grace = 10s;
    }
}

sub vcl_backend_response {
    if (beresp.status == 200) {
        # While the origin does not answer: verifiers accept a list until its `exp`.
        set beresp.grace = 12h;
        # To ask by ETag.
        set beresp.keep = 1h;
    } elsif (beresp.status >= 500 && bereq.is_bgfetch) {
        # The old copy is better.
        return (abandon);
    }
}
