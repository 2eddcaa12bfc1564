package main

import (
	"bytes"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// joins NAME ADDRESS PASSWORD: whoever was invited joins by the link that was mailed last, and is signed in under a name.
func joins(ts *testscript.TestScript, _ bool, args []string) {
	var tried []string
	for {
		link := mailed(ts, args[1], `#link=(avl_[a-z2-7]+)`, tried...)
		tried = append(tried, link) // a later one may be on its way, and has ended this one
		body, err := json.Marshal(map[string]any{"do": "join", "link": link, "name": "Somebody", "password": args[2]})
		ts.Check(err)
		status, said, cookies := browse(ts, http.MethodPost, "/api/v1/join", "", bytes.NewReader(body))
		if status == http.StatusForbidden {
			continue
		}
		step, cookie := answered(ts, "/api/v1/join", status, said, cookies)
		_, cookie = finish(ts, args[1], step, cookie)
		ts.Setenv(args[0], cookie)
		return
	}
}

// signs-in NAME ADDRESS PASSWORD: somebody signs in, and is known by a name from then on.
func signsInAs(ts *testscript.TestScript, _ bool, args []string) {
	step, cookie := post(ts, "/api/v1/sign-in", map[string]any{"address": args[1], "password": args[2]})
	_, cookie = finish(ts, args[1], step, cookie)
	ts.Setenv(args[0], cookie)
}

// gets-token NAME ADDRESS PASSWORD: a program of somebody's signs in. Its access token is in a variable, and its person's id in NAME_ID.
func getsToken(ts *testscript.TestScript, _ bool, args []string) {
	step, _ := post(ts, "/api/v1/sign-in", map[string]any{"address": args[1], "password": args[2], "kind": "program"})
	step, _ = finish(ts, args[1], step, "")
	ts.Setenv(args[0], step["access_token"].(string))
	ts.Setenv(args[0]+"_ID", step["person_id"].(string))
}

// asks STATUS NAME METHOD PATH [BODY [VARIABLE FIELD]]: who has signed in gets an answer of this status, of which a field is kept.
func asks(ts *testscript.TestScript, _ bool, args []string) {
	var body io.Reader
	if len(args) > 4 {
		body = strings.NewReader(args[4])
	}
	status, said, _ := browse(ts, args[2], args[3], args[1], body)
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("%s %s: %d: %s", args[2], args[3], status, said)
	}
	if len(args) > 6 {
		var answer map[string]any
		ts.Check(json.Unmarshal(said, &answer))
		ts.Setenv(args[5], answer[args[6]].(string))
	}
}

// browse sends a request as a page of ours does.
func browse(ts *testscript.TestScript, method, path, cookie string, body io.Reader) (status int, said []byte, cookies []*http.Cookie) {
	at := ts.Getenv("AVOUCH_URL")
	req, err := http.NewRequest(method, at+path, body)
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", at)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	r, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer r.Body.Close()
	said, err = io.ReadAll(r.Body)
	ts.Check(err)
	return r.StatusCode, said, r.Cookies()
}

func post(ts *testscript.TestScript, path string, body map[string]any) (answer map[string]any, cookie string) {
	b, err := json.Marshal(body)
	ts.Check(err)
	status, said, cookies := browse(ts, http.MethodPost, path, "", bytes.NewReader(b))
	return answered(ts, path, status, said, cookies)
}

func answered(ts *testscript.TestScript, path string, status int, said []byte, cookies []*http.Cookie) (answer map[string]any, cookie string) {
	if status != http.StatusOK {
		ts.Fatalf("%s: %d: %s", path, status, said)
	}
	ts.Check(json.Unmarshal(said, &answer))
	for _, c := range cookies {
		if c.Name == "avouch" {
			cookie = c.Name + "=" + c.Value
		}
	}
	return answer, cookie
}

// finish goes on with a sign-in until there is a session: by codes that are mailed, which a first sign-in sets up.
func finish(ts *testscript.TestScript, address string, step map[string]any, cookie string) (map[string]any, string) {
	const on, code = "/api/v1/sign-in/continue", `\b([0-9]{6})\b`
	attempt := step["attempt"]
	seen := shown(ts, address, code)
	switch step["state"] {
	case "enrol":
		begun, _ := post(ts, on, map[string]any{"attempt": attempt, "do": "enrol", "kind": "email"})
		factor := begun["enrolment"].(map[string]any)["id"]
		step, cookie = post(ts, on, map[string]any{"attempt": attempt, "do": "confirm", "factor": factor, "code": mailed(ts, address, code, seen...)})
	case "factor":
		factor := step["factors"].([]any)[0].(map[string]any)["id"]
		post(ts, on, map[string]any{"attempt": attempt, "do": "ask", "factor": factor})
		step, cookie = post(ts, on, map[string]any{"attempt": attempt, "do": "prove", "factor": factor, "code": mailed(ts, address, code, seen...)})
	}
	if step["state"] != "signed_in" || (cookie == "") == (step["access_token"] == nil) {
		ts.Fatalf("it ends at %v", step["state"])
	}
	return step, cookie
}

// mailed waits until a mail to an address shows what was not seen before.
func mailed(ts *testscript.TestScript, address, pattern string, seen ...string) string {
	for range 600 {
		for _, found := range shown(ts, address, pattern) {
			if !slices.Contains(seen, found) {
				return found
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("no mail to %s shows %s", address, pattern)
	return ""
}

var (
	messages = regexp.MustCompile(`<a href="(/dev/inbox/[0-9]+)">[^<]*</a><span class="soft">To ([^,]+),`)
	text     = regexp.MustCompile(`(?s)<pre>(.*?)</pre>`)
)

// shown is what the mails to an address show of a pattern, the newest first.
func shown(ts *testscript.TestScript, address, pattern string) (all []string) {
	_, list, _ := browse(ts, http.MethodGet, "/dev/inbox", "", nil)
	for _, m := range messages.FindAllStringSubmatch(string(list), -1) {
		if html.UnescapeString(m[2]) != address {
			continue
		}
		_, said, _ := browse(ts, http.MethodGet, m[1], "", nil)
		for _, t := range text.FindAllStringSubmatch(string(said), 1) {
			if found := regexp.MustCompile(pattern).FindStringSubmatch(html.UnescapeString(t[1])); found != nil {
				all = append(all, found[1])
			}
		}
	}
	return all
}
