package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/problem"
)

const aKey = "avk_test_00000000001_00000000000000000000000000000000000000000013tCHsg"

func TestRedact(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"unexpected argument avk_live_AbcDef12345_secretsecret": "unexpected argument [secret]",
		"backup_" + aKey + ".txt":                               "backup_[secret].txt",
		"x" + aKey + "_old":                                     "x[secret]",
		"7" + aKey + "," + aKey:                                 "7[secret],[secret]",
		"/tmp/" + aKey + "/" + aKey + ".d":                      "/tmp/[secret]/[secret].d",
		`"x\n` + aKey + `\n"`:                                   `"x\n[secret]\n"`,
		aKey[:40]:                                               "[secret]",
		"got eyJhbGciOi.eyJpc3Mi.c2ln!":                         "got [secret]!",
		"_eyJhbGciOi.eyJpc3Mi":                                  "_[secret]",
		"monkeyJar.tar.gz and keyJson.test.ts":                  "monkeyJar.tar.gz and keyJson.test.ts",
		"otpauth://totp/A:b?secret=GEZDGNBVGY3TQOJQ is":         "[secret] is",
		`"otpauth-migration://offline?data=CjEK" is`:            `"[secret]" is`,
		"OTPAUTH://hotp/x?secret=a,b":                           "[secret]",
		"an otpauth:// address":                                 "an otpauth:// address",
		"agent eyJoe and avatar_test_x":                         "agent eyJoe and avatar_test_x",
		"avk_test_00000000001_...CHsg":                          "avk_test_00000000001_...CHsg",
		"01a20230-5a60-7908-ba4d-65ae0c":                        "01a20230-5a60-7908-ba4d-65ae0c",
	} {
		if got := redact(in); got != want {
			t.Errorf("redact(%q) = %q; want %q", in, got, want)
		}
	}
}

// TestErrorsHoldNoKey: whatever is told on standard error, as words, as JSON, or by the log.
func TestErrorsHoldNoKey(t *testing.T) {
	t.Parallel()
	key := "_" + aKey + "x"
	for what, say := range map[string]func(redacted){
		"words":          func(to redacted) { report(to, lacks("open /tmp/nofile%s: no such file", key), false) },
		"json":           func(to redacted) { report(to, lacks("open /tmp/nofile%s: no such file", key), true) },
		"problem":        func(to redacted) { report(to, anyProblem(key), false) },
		"problem's json": func(to redacted) { report(to, anyProblem(key), true) },
		"scan": func(to redacted) {
			g := globals{Err: to, Out: to.to, Getenv: func(string) string { return "" }}
			_ = (&keysScan{Paths: []string{"nofile" + key}}).Run(t.Context(), &g)
		},
		"scan's json": func(to redacted) { // on standard output, which is for keys too
			_ = (&keysScan{Paths: []string{"nofile" + key}}).Run(t.Context(), &globals{JSON: true, Out: to.to})
		},
		"log":        func(to redacted) { logger(to, false).Info("x", slog.String("at", key)) },
		"log's json": func(to redacted) { logger(to, true).Info("x", slog.String("at", key)) },
	} {
		var b bytes.Buffer
		say(redacted{&b})
		if !strings.Contains(b.String(), "[secret]") || strings.Contains(b.String(), "3tCHsg") {
			t.Errorf("%s: %s", what, b.String())
		}
	}
}

func anyProblem(key string) error {
	return fmt.Errorf("x: %w", &client.Problem{
		Kind: problem.Invalid, Status: 400, Title: "T", Detail: "D" + key, RequestID: key, Known: true, Fields: []problem.Field{{Location: key, Message: key}},
	})
}
