package fetch

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// item is the policy that most of these tests ask.
func item() Policy {
	return Policy{
		Hosts:   []string{"api.example.com", "Bücher.example:8443", "*.wide.example", "[2606:4700::1111]", "192.0.2.7", "http://10.1.2.3:8080"},
		Methods: []string{"GET", "POST"}, Header: "Authorization", Value: "Bearer {secret}",
	}
}

func isDenied(err error) bool {
	var d *Denied
	return errors.As(err, &d)
}

func TestHosts(t *testing.T) {
	t.Parallel()
	c, err := item().compile()
	if err != nil {
		t.Fatal(err)
	}
	for given, sent := range map[string]string{
		"https://api.example.com":               "https://api.example.com/",
		"https://api.example.com/v1?a=b&c=%20d": "https://api.example.com/v1?a=b&c=%20d",
		"HTTPS://API.Example.COM:443/v1":        "https://api.example.com/v1",
		"https://api.example.com:/v1":           "https://api.example.com/v1",
		"https://api.example.com:0443/v1":       "https://api.example.com/v1",
		"https://api.example.com./v1":           "https://api.example.com/v1",
		"https://ａｐｉ.example.com/":              "https://api.example.com/",
		"https://api。example。com/":              "https://api.example.com/",
		"https://bücher.example:8443/":          "https://xn--bcher-kva.example:8443/",
		"https://BÜCHER.example:8443/":          "https://xn--bcher-kva.example:8443/",
		"https://xn--bcher-kva.example:8443/":   "https://xn--bcher-kva.example:8443/",
		"https://a.wide.example/":               "https://a.wide.example/",
		"https://a.b.wide.example/":             "https://a.b.wide.example/",
		"https://[2606:4700::1111]/":            "https://[2606:4700::1111]/",
		"https://[2606:4700:0:0:0:0:0:1111]/":   "https://[2606:4700::1111]/",
		"https://[::ffff:192.0.2.7]/":           "https://192.0.2.7/",
		"https://192.0.2.7/":                    "https://192.0.2.7/",
		"https://１９２.0.2.7/":                    "https://192.0.2.7/",
		"http://10.1.2.3:8080/":                 "http://10.1.2.3:8080/",
		"https://api.example.com/a%2Fb/%c3%bc":  "https://api.example.com/a%2Fb/%c3%bc",
		"https://a\u200bpi.example.com/":        "https://api.example.com/", // what IDNA leaves out
	} {
		if to, err := c.judge(Request{URL: given}); err != nil {
			t.Errorf("%s: %v", given, err)
		} else if to.String() != sent {
			t.Errorf("%s is sent to %s, want %s", given, to, sent)
		} else if target, err := Target(item(), Request{URL: given}); err != nil || target != to.Scheme+"://"+to.Host || !strings.HasPrefix(sent, target+"/") {
			t.Errorf("%s is sent to %s, %v", given, target, err)
		}
	}
}

// TestHostTraps is what looks like a host of the policy, or may to another program.
func TestHostTraps(t *testing.T) {
	t.Parallel()
	for _, given := range []string{
		"", "/", "api.example.com", "//api.example.com/", "https:", "https:///", "https:api.example.com", "https:/api.example.com/", "ftp://api.example.com/", "file:///etc/passwd",
		"http://api.example.com/", "http://api.example.com:443/", "https://api.example.com:80/", "https://api.example.com:8443/", "https://bücher.example/",
		"https://10.1.2.3:8080/", "http://10.1.2.3/",
		"https://example.com/", "https://evil-api.example.com/", "https://api.example.com.evil.example/", "https://api.example.comx/", "https://xapi.example.com/",
		"https://wide.example/", "https://evilwide.example/", "https://.wide.example/", "https://a.wide.example.evil.example/", "https://*.wide.example/",
		"https://api.example.com@evil.example/", "https://user@api.example.com/", "https://user:pass@api.example.com/", "https://evil.example#@api.example.com/",
		`https://evil.example\@api.example.com/`, `https://api.example.com\.evil.example/`, "https://api.example.com#/", "https://api.example.com/#x",
		"https://%61pi.example.com/", "https://api%2Eexample.com/", "https://api.example.com%00.evil.example/", "https://api.example.com%2F.evil.example/", "https://api.example.com%252e/",
		"https://api.example.com../", "https://.api.example.com/", "https://api..example.com/", "https://api.example.com:443:443/", "https://api.example.com:+443/",
		"https://api.example.com:65979/", "https://api.example.com:0/", "https://api.example.com:-1/", "https://api.example.com:４４３/", "https://api.example.com:443x/",
		"https://api.example.com /", " https://api.example.com/", "https://api.example.com/\r\nX: y", "https://api.example.com/\x00", "https://api.example.com/a b", "https://api.example.com/?a b", "https://api.example.com/?ü", "https://api.example.com\t/",
		"https://аpi.example.com/" /* a Cyrillic a */, "https://xn--/", "https://\xe5.wide.example/", "https://\ufffd.wide.example/", "https://xn--zn7c.wide.example/", "https://api.example.com/x\u00a0", "https://api.example.com/ü", "https://api.example.com/a%2Fb{", `https://api.example.com/?a\b`, `https://api.example.com/a\b`, "https://api_example.com/",
		"https://3221225991/", "https://0xc0000207/", "https://0300.0.2.7/", "https://192.0.519/", "https://192.0.2.07/", "https://192.0.2.0x7/", "https://192.0.2.7.8/", "https://192.0.2/", "https://192.0.2.263/",
		"https://0x7f.1/", "https://2130706433/", "https://127.1/", "https://0/",
		"https://[::ffff:192.0.2.8]/", "https://[2606:4700::1111%25eth0]/", "https://[2606:4700::1111%eth0]/", "https://[2606:4700::1111/", "https://[2606:4700::1111]x/", "https://[2606:4700::1111]443/",
		"https://2606:4700::1111/", "https://[192.0.2.7]/", "https://[api.example.com]/", "https://[]/", "https://[64:ff9b::192.0.2.7]/", "https://[::192.0.2.7]/",
		"https://api.example.com/{secret}", "https://api.example.com/?k={secret}", "https://api.example.com/?k=%7Bsecret%7d", "https://api.example.com/?k=%7Bsec%72et%7d",
		"https://api.example.com/" + strings.Repeat("a", mostAddress), "https://" + strings.Repeat("a.", 130) + "wide.example/",
	} {
		if err := Judge(item(), Request{URL: given}); !isDenied(err) {
			t.Errorf("%.100q: %v", given, err)
		}
	}
	for _, given := range []string{"https://user@api.example.com/", "https://user:pass@api.example.com/"} {
		if err := Judge(item(), Request{URL: given}); !isDenied(err) || !strings.Contains(err.Error(), "holds a user name") || strings.Contains(err.Error(), "pass") {
			t.Errorf("%s: %v", given, err)
		}
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	p := item()
	p.Paths = []string{"/v1/repos", "/über/"}
	for path, ok := range map[string]bool{
		"/v1/repos": true, "/v1/repos/": true, "/v1/repos/a/b?x=../..": true, "/v1/%72epos/a": true, "/%C3%BCber/x": true, "/%c3%bcber": true, "/v1/repos/a%2Fb": true, "/v1/repos/...": true, "/v1/repos//a": true,
		"": false, "/": false, "/v1": false, "/v1/reposx": false, "/V1/repos": false, "//v1/repos": false, "/v1//repos": false, "/v1%2Frepos/a": false, "/v1/repos;x": false,
		"/v1/repos/../admin": false, "/v1/repos/..": false, "/v1/repos/%2e%2e/admin": false, "/v1/repos/%2E./admin": false, "/v1/repos/..%2fadmin": false, "/v1/repos/%252e%252e/admin": false,
		"/v1/repos/..;/admin": false, "/v1/repos/..;a=b/admin": false, "/v1/repos/%2e%2e%3b/admin": false, "/v1/repos/..%5Cadmin": false, "/v1/./repos": false, "/v1/repos/a%00": false, "/v1/repos/a%0d%0aX:%20y": false,
		"/v1/repos/%25252525252e%25252525252e/": false, "/admin/..;/v1/repos": false, "/v1/repos%3f": false,
		// What stands for nothing may stop one who decodes, and not another.
		"/v1/repos/%25zz/%252e%252e/%252e%252e/user": false, "/v1/repos/%zz/%2e%2e": false, "/v1/repos/%25": false, "/v1/repos/a%2525": false, "/v1/repos/%25252/%25252e%25252e": false,
		"/v1/repos/..%20/admin": false, "/v1/repos/%20../admin": false, "/v1/repos/..%2520/admin": false, "/v1/repos/..%20;x/admin": false, "/v1/repos/%c2%a0.%c2%a0/admin": false, "/v1/repos/a%20b": true,
		"/v1/repos/%c0%ae%c0%ae/admin": false, "/v1/repos/%25c0%25ae%25c0%25ae/admin": false, "/v1/repos/%e0%80%ae": false, "/v1/repos/%ff": false,
	} {
		if err := Judge(p, Request{URL: "https://api.example.com" + path}); (err == nil) != ok || err != nil && !isDenied(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	p.Paths = []string{"/"}
	if err := Judge(p, Request{URL: "https://api.example.com/anything"}); err != nil {
		t.Error(err)
	}
	if err := Judge(item(), Request{URL: "https://api.example.com/a/%2e%2e/b"}); !isDenied(err) {
		t.Errorf("without paths: %v", err)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	ask := func(p Policy, header map[string]string) error {
		return Judge(p, Request{URL: "https://api.example.com/", Header: header})
	}
	for _, ok := range []map[string]string{nil, {"Accept": "application/json", "X-GitHub-Api-Version": "2022-11-28"}, {"If-None-Match": `"x"`}, {"content-type": "a/b"}, {"X-Note": "ü\t"}} {
		if err := ask(item(), ok); err != nil {
			t.Errorf("%v: %v", ok, err)
		}
	}
	for _, name := range []string{
		"Authorization", "authorization", "AUTHORIZATION", "Host", "host", "Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "transfer_encoding", "Content-Length", "Content_Length",
		"Upgrade", "Expect", "HTTP2-Settings", "Proxy-Authorization", "Proxy-Connection", "proxy-x", "X-Forwarded-For", "X_Forwarded_Host", "x-forwarded-anything", "Forwarded", "Via", "X-Real-IP",
		"X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL", "Range",
		"X-Forwarded", "X_Forwarded", "X-Host", "X-Original-Host", "X-Original-Method", "X-HTTP-Path-Override", "X-Override-URL", "If-Range", "Accept-Encoding", "Cookie", "cookie", "Cookie2",
		"", " ", "A B", "A:", ":authority", "A\r\nB", "Ä", "Accept ", "A\x00",
	} {
		if err := ask(item(), map[string]string{name: "x"}); !isDenied(err) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, value := range []string{"a\r\nX: y", "a\nb", "a\rb", "a\x00", "{secret}", "Bearer {secret}", "\x7f"} {
		if err := ask(item(), map[string]string{"X-Note": value}); !isDenied(err) {
			t.Errorf("value %q: %v", value, err)
		}
	}
	many := map[string]string{}
	for i := range mostHeaders + 1 {
		many[fmt.Sprint("X-", i)] = "x"
	}
	for _, header := range []map[string]string{many, {"A": strings.Repeat("x", mostHeader)}, {"X-A": "1", "x-a": "2"}, {"X-A": "1", "X_A": "2"}} {
		if err := ask(item(), header); !isDenied(err) {
			t.Errorf("%d headers: %v", len(header), err)
		}
	}
	cookies := item()
	cookies.Cookies = true
	if err := ask(cookies, map[string]string{"Cookie": "a=b"}); err != nil {
		t.Error(err)
	}
	key := item()
	key.Header, key.Value = "X-Api-Key", "{secret}"
	if err := ask(key, map[string]string{"X_API_KEY": "mine"}); !isDenied(err) {
		t.Errorf("what servers take for the injected header: %v", err)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	const address = "https://api.example.com/"
	for name, r := range map[string]Request{
		"a GET": {}, "a POST": {Method: "POST", Body: []byte("x")}, "the longest body": {Method: "POST", Body: make([]byte, mostBody)},
		"pointers": {Reduce: Reduce{Pointers: []string{"", "/a/0/~0~1", "/"}}}, "the status": {Reduce: Reduce{Status: true}},
	} {
		r.URL = address
		if err := Judge(item(), r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, r := range map[string]Request{
		"another method": {Method: "DELETE"}, "in lower case": {Method: "post"}, "a made up one": {Method: "GET /x HTTP/1.1\r\nX:"}, "TRACE": {Method: "TRACE"},
		"a GET with a body": {Body: []byte("x")}, "too long a body": {Method: "POST", Body: make([]byte, mostBody+1)}, "the placeholder": {Method: "POST", Body: []byte(`{"k":"{secret}"}`)},
		"two reductions": {Reduce: Reduce{Status: true, Pointers: []string{"/a"}}}, "no pointer": {Reduce: Reduce{Pointers: []string{"a"}}}, "a bad escape": {Reduce: Reduce{Pointers: []string{"/~2"}}},
		"many pointers": {Reduce: Reduce{Pointers: make([]string, mostPointers+1)}}, "a long one": {Reduce: Reduce{Pointers: []string{"/" + strings.Repeat("a", mostPointer)}}},
	} {
		r.URL = address
		if err := Judge(item(), r); !isDenied(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhoseFault: what no policy allows is the request's own fault, and named by its field; what another policy would allow is not.
func TestWhoseFault(t *testing.T) {
	t.Parallel()
	const address = "https://api.example.com/v1"
	narrow := item()
	narrow.Paths, narrow.Reduce = []string{"/v1"}, Reduce{Pointers: []string{"/id", "/a/0"}}
	status := Reduce{Status: true}
	for name, c := range map[string]struct {
		field string
		r     Request
	}{
		"no address": {"url", Request{}}, "no scheme": {"url", Request{URL: "api.example.com/v1"}}, "a blank": {"url", Request{URL: address + "/a b"}}, "a user": {"url", Request{URL: "https://me@api.example.com/"}},
		"too long": {"url", Request{URL: address + strings.Repeat("a", mostAddress)}}, "a fragment": {"url", Request{URL: address + "#a"}}, "no host": {"url", Request{URL: "https://a..b/"}}, "not encoded": {"url", Request{URL: address + "/ü"}},
		"a way up": {"url", Request{URL: address + "/../x"}}, "half an escape": {"url", Request{URL: address + "/%2525zz%25"}}, "the secret in the address": {"url", Request{URL: address + "?k={secret}"}},
		"a body of a GET": {"body", Request{URL: address, Body: []byte("x")}}, "a long body": {"body", Request{URL: address, Method: "POST", Body: make([]byte, mostBody+1)}},
		"the secret in the body": {"body", Request{URL: address, Method: "POST", Body: []byte(placeholder)}},
		"the secret's header":    {"header", Request{URL: address, Header: map[string]string{"authorization": "x"}}}, "a malformed one": {"header", Request{URL: address, Header: map[string]string{"A B": "x"}}},
		"the connection's": {"header", Request{URL: address, Header: map[string]string{"Host": "x"}}}, "the secret in another": {"header", Request{URL: address, Header: map[string]string{"X-A": placeholder}}},
		"one twice": {"header", Request{URL: address, Header: map[string]string{"X-A": "1", "x-a": "2"}}}, "long ones": {"header", Request{URL: address, Header: map[string]string{"X-A": strings.Repeat("x", mostHeader)}}},
		"no pointer": {"reduce", Request{URL: address, Reduce: Reduce{Pointers: []string{"nope"}}}}, "two reductions": {"reduce", Request{URL: address, Reduce: Reduce{Status: true, Pointers: []string{"/id"}}}},
		"another host": {"", Request{URL: "https://example.com/v1"}}, "another path": {"", Request{URL: "https://api.example.com/v2"}}, "another method": {"", Request{URL: address, Method: "DELETE"}},
		"cookies": {"", Request{URL: address, Header: map[string]string{"Cookie": "a=b"}}}, "all of the answer": {"", Request{URL: address}}, "another part of it": {"", Request{URL: address, Reduce: Reduce{Pointers: []string{"/b"}}}},
	} {
		var d *Denied
		if err := Judge(narrow, c.r); !errors.As(err, &d) || d.Field != c.field || d.Why == "" {
			t.Errorf("%s: %+v, want %q", name, d, c.field)
		} else if c.r.Method == "" && c.r.Header == nil && c.field == "" && strings.HasPrefix(c.r.URL, address) && !strings.Contains(d.Why, `["/id" "/a/0"]`) {
			t.Errorf("%s: it does not say what may be asked for: %s", name, d.Why)
		}
	}
	if err := Judge(narrow, Request{URL: address, Reduce: status}); err != nil {
		t.Error(err)
	}
}

// TestReductions: the agent asks for as much of an answer as the policy leaves, or for less, and never for more: also not by leaving it out.
func TestReductions(t *testing.T) {
	t.Parallel()
	all, status := Reduce{}, Reduce{Status: true}
	of := func(pointers ...string) Reduce { return Reduce{Pointers: pointers} }
	for _, c := range []struct {
		most, asked Reduce
		ok          bool
	}{
		{all, all, true}, {all, status, true}, {all, of("/a"), true},
		{status, status, true}, {status, all, false}, {status, of("/a"), false}, {status, of(""), false}, {status, Reduce{Status: true, Pointers: []string{"/a"}}, false},
		{of("/a", "/b/0"), of("/a"), true}, {of("/a", "/b/0"), of("/b/0", "/a"), true}, {of("/a", "/b/0"), of("/a/c/d", "/b/0/x"), true}, {of("/a", "/b/0"), status, true},
		{of("/a", "/b/0"), all, false}, {of("/a", "/b/0"), of(""), false}, {of("/a", "/b/0"), of("/b"), false}, {of("/a", "/b/0"), of("/a", "/c"), false}, {of("/a", "/b/0"), of("/b/00"), false},
		{of("/a", "/b/0"), of("/ab"), false}, {of("/a", "/b/0"), of("/"), false}, {of("/a~1b"), of("/a/b"), false}, {of("/a/b"), of("/a~1b"), false}, {of("/a~1b"), of("/a~1b/c"), true},
		{of(""), of("/a"), true}, {of(""), of(""), true}, {of(""), all, false}, // which has headers too
	} {
		p := item()
		p.Reduce = c.most
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		if err := Judge(p, Request{URL: "https://api.example.com/", Reduce: c.asked}); (err == nil) != c.ok || err != nil && !isDenied(err) {
			t.Errorf("at most %+v, asked for %+v: %v", c.most, c.asked, err)
		} else if err != nil && c.most.Status && !c.asked.Status && !strings.Contains(err.Error(), "the status alone") {
			t.Errorf("asked for %+v: it says %v", c.asked, err)
		}
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	with := func(change func(*Policy)) Policy {
		p := item()
		change(&p)
		return p
	}
	for name, p := range map[string]Policy{
		"as it is": item(),
		"basic":    with(func(p *Policy) { p.Value = "Basic base64(user:{secret})" }),
		"reversed": with(func(p *Policy) { p.Value = "Basic base64({secret}:)" }),
		"a cookie": with(func(p *Policy) { p.Header, p.Value = "Cookie", "session={secret}" }),
		"a subtree": with(func(p *Policy) {
			p.Hosts, p.Paths = []string{"*.example.com:8443", "https://x.example"}, []string{"/", "/a/b"}
		}),
	} {
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := map[string]Policy{
		"no hosts": with(func(p *Policy) { p.Hosts = nil }), "many hosts": with(func(p *Policy) { p.Hosts = make([]string, mostHosts+1) }),
		"no header": with(func(p *Policy) { p.Header = "" }), "a malformed one": with(func(p *Policy) { p.Header = "A B" }), "a long one": with(func(p *Policy) { p.Header = strings.Repeat("a", mostName+1) }),
	}
	for _, h := range []string{
		"", "*", "*.", "*.com", "*.co.uk", "*.github.io", "*.192.0.2.7", "*.[::1]", "a.*.example.com", "**.example.com", "*example.com", "a b", "user@example.com", "example.com/path", "example.com?", "example.com#",
		"0x7f000001", "0xA000001.", "10.0x1", "a.example.0x7f", // a resolver may read them as addresses
		"ftp://example.com", "http://http://example.com", "example.com:", "example.com:0", "example.com:99999", "2130706433", "0x7f.1", "127.1", "::1", "[::1", "[fe80::1%eth0]", "%65xample.com", "exa_mple.com", "https://",
	} {
		if h == "example.com:" {
			continue // the usual port
		}
		bad["the host "+h] = with(func(p *Policy) { p.Hosts = []string{"api.example.com", h} })
	}
	for _, h := range []string{"Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "Proxy-Authorization", "X-Forwarded-For", "Accept-Encoding", "Range", "X_Forwarded_For"} {
		bad["the header "+h] = with(func(p *Policy) { p.Header = h })
	}
	for _, v := range []string{"", "Bearer", "{secret}{secret}", "Bearer {secret}\r\nX: y", " {secret}", "{secret} ", "base64({secret}", "base64({secret})x", "Bearer {secret}\x00", "ü{secret}", strings.Repeat("x", mostValue) + "{secret}"} {
		bad["the value "+v] = with(func(p *Policy) { p.Value = v })
	}
	for _, m := range []string{"", "get", "CONNECT", "TRACE", "TRACK", "A B", "GET\r\n"} {
		bad["the method "+m] = with(func(p *Policy) { p.Methods = []string{m} })
	}
	for _, path := range []string{"", "v1", "/../x", "/a/./b", "/a%2fb", `/a\b`, "/a?b", "/a#b", "/a//b", "/a;b", "/a*"} {
		bad["the path "+path] = with(func(p *Policy) { p.Paths = []string{path} })
	}
	for name, r := range map[string]Reduce{
		"two reductions": {Status: true, Pointers: []string{"/a"}}, "no pointer": {Pointers: []string{"a"}}, "a bad escape": {Pointers: []string{"/a", "/~2"}},
		"many pointers": {Pointers: make([]string, mostPointers+1)}, "a long one": {Pointers: []string{"/" + strings.Repeat("a", mostPointer)}},
	} {
		bad[name] = with(func(p *Policy) { p.Reduce = r })
	}
	for name, p := range bad {
		if p.Check() == nil {
			t.Errorf("%s is taken", name)
		}
		if err := Judge(p, Request{URL: "https://api.example.com/"}); err == nil || isDenied(err) {
			t.Errorf("%s: a request is judged by it: %v", name, err)
		}
	}
	plain := Policy{Hosts: []string{"a.example"}, Header: "x-key", Value: "{secret}"}
	for method, ok := range map[string]bool{"": true, "GET": true, "HEAD": true, "POST": false, "OPTIONS": false} {
		if err := Judge(plain, Request{Method: method, URL: "https://a.example/"}); (err == nil) != ok {
			t.Errorf("%s without methods: %v", method, err)
		}
	}
}

// FuzzURL: whatever is judged to be allowed goes to a host of the policy, also as the standard library reads what is sent.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"https://api.example.com/v1/x?y=z", "https://a.wide.example:443", `https://api.example.com\@evil.example`, "https://[2606:4700::1111]:0443/", "https://１９２.0.2.7/", "https://bücher.example:8443/%2e%2e/"} {
		f.Add(s)
	}
	c, err := item().compile()
	if err != nil {
		f.Fatal(err)
	}
	hosts := map[string]bool{"https://api.example.com": true, "https://xn--bcher-kva.example:8443": true, "https://[2606:4700::1111]": true, "https://192.0.2.7": true, "http://10.1.2.3:8080": true}
	f.Fuzz(func(t *testing.T, text string) {
		to, err := c.judge(Request{URL: text})
		if err != nil {
			if !isDenied(err) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		again, err := url.Parse(to.String())
		if err != nil || again.Host != to.Host || again.User != nil || again.Fragment != "" || again.Opaque != "" {
			t.Fatalf("%q is sent to %s, which is read as %+v, %v", text, to, again, err)
		}
		if at := again.Scheme + "://" + again.Host; !hosts[at] && !(strings.HasPrefix(at, "https://") && strings.HasSuffix(at, ".wide.example")) {
			t.Errorf("%q is sent to %s", text, at)
		}
		if strings.ContainsAny(again.Host, "@\\%") || strings.ContainsFunc(again.RequestURI(), func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Errorf("%q is sent as %q", text, again.RequestURI())
		}
		if twice, err := c.judge(Request{URL: to.String()}); err != nil || twice.String() != to.String() {
			t.Errorf("%q is sent to %s, which is judged %v, %v", text, to, twice, err)
		}
	})
}
