package audit

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// signNote signs any text with a log's key, as a log that lies could.
func signNote(tb testing.TB, seed byte, text string) []byte {
	tb.Helper()
	signer, _ := testKey(tb, testOrigin(1), seed)
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		tb.Fatal(err)
	}
	return signed
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	signer, vkey := testKey(t, testOrigin(1), 1)
	want := Checkpoint{testOrigin(1), 300, numbered(1)}
	signed, err := want.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenCheckpoint(signed, vkey)
	if err != nil || got != want {
		t.Fatalf("OpenCheckpoint = %+v, %v", got, err)
	}
	if log, err := got.Log(); err != nil || log != testLog(1) {
		t.Errorf("Log = %v, %v", log, err)
	}
	for i := range len(signed) * 8 {
		b := bytes.Clone(signed)
		b[i/8] ^= 1 << (i % 8)
		if c, err := OpenCheckpoint(b, vkey); err == nil {
			t.Fatalf("bit %d of byte %d changed, and it opened: %+v\n%s", i%8, i/8, c, b)
		}
	}
	for _, bad := range []Checkpoint{{testOrigin(2), 1, want.Root}, {testOrigin(1), -1, want.Root}, {testOrigin(1), MaxSize + 1, want.Root}} {
		if _, err := bad.Sign(signer); err == nil {
			t.Errorf("signed %+v", bad)
		}
	}
	if _, err := want.Sign(); err == nil {
		t.Error("signed by nobody")
	}
}

func TestCheckpointWithWitness(t *testing.T) {
	t.Parallel()
	log, vkey := testKey(t, testOrigin(1), 1)
	witness, _ := testKey(t, "witness.example", 9)
	want := Checkpoint{testOrigin(1), 300, numbered(1)}
	signed, err := want.Sign(log, witness)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenCheckpoint(signed, vkey); err != nil || got != want {
		t.Errorf("with a witness's signature: %+v, %v", got, err)
	}
	lines := bytes.SplitAfter(signed, []byte("\n"))
	if _, err := OpenCheckpoint(append(bytes.Clone(signed), lines[len(lines)-2]...), vkey); err == nil {
		t.Error("the same signature twice: opened")
	}
}

func TestOpenCheckpointRefuses(t *testing.T) {
	t.Parallel()
	_, vkey := testKey(t, testOrigin(1), 1)
	root := tlog.Hash(numbered(1)).String()
	for name, signed := range map[string][]byte{
		"nothing":         nil,
		"another key":     signNote(t, 2, testOrigin(1)+"\n1\n"+root+"\n"),
		"another origin":  signNote(t, 1, testOrigin(2)+"\n1\n"+root+"\n"),
		"an extension":    signNote(t, 1, testOrigin(1)+"\n1\n"+root+"\nmore\n"),
		"no root":         signNote(t, 1, testOrigin(1)+"\n1\n"),
		"a short root":    signNote(t, 1, testOrigin(1)+"\n1\nAAAA\n"),
		"size -1":         signNote(t, 1, testOrigin(1)+"\n-1\n"+root+"\n"),
		"size 01":         signNote(t, 1, testOrigin(1)+"\n01\n"+root+"\n"),
		"MaxSize + 1":     signNote(t, 1, fmt.Sprintf("%s\n%d\n%s\n", testOrigin(1), int64(MaxSize)+1, root)),
		"size 2^63-1":     signNote(t, 1, testOrigin(1)+"\n9223372036854775807\n"+root+"\n"),
		"size of 30 nine": signNote(t, 1, testOrigin(1)+"\n"+strings.Repeat("9", 30)+"\n"+root+"\n"),
		"too long":        signNote(t, 1, testOrigin(1)+"\n1\n"+root+"\n"+strings.Repeat("x\n", MaxCheckpoint)),
	} {
		if c, err := OpenCheckpoint(signed, vkey); err == nil {
			t.Errorf("%s: opened as %+v", name, c)
		}
	}
	for _, bad := range []string{"", "x", strings.ToUpper(vkey), vkey + "\n", vkey[:len(vkey)-4]} {
		if _, err := OpenCheckpoint(signNote(t, 1, testOrigin(1)+"\n1\n"+root+"\n"), bad); err == nil {
			t.Errorf("opened with the key %q", bad)
		}
	}
	for _, origin := range []string{"", "example", "example/audit/", "example/audit/1", "/audit/" + testLog(1).String(), "x/audit/" + testLog(1).String() + "/",
		"x\u009b/audit/" + testLog(1).String(), "x\u202e/audit/" + testLog(1).String()} {
		if log, err := (Checkpoint{Origin: origin}).Log(); err == nil {
			t.Errorf("%q names log %v", origin, log)
		}
	}
}

func FuzzCheckpoint(f *testing.F) {
	signer, vkey := testKey(f, testOrigin(1), 1)
	good, err := Checkpoint{testOrigin(1), 300, numbered(1)}.Sign(signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(testOrigin(1) + "\n1\nAAAA\n\n\u2014 x AAAAAAAA\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := OpenCheckpoint(b, vkey)
		// The key signed one text only; cosignatures by others may follow it.
		if err == nil && (c != Checkpoint{testOrigin(1), 300, numbered(1)} || len(b) < len(good)) {
			t.Errorf("%q opened as %+v", b, c)
		}
	})
}
