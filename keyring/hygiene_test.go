package keyring

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

func TestKeysDoNotPrint(t *testing.T) {
	t.Parallel()
	r, tenant := newRing(t)
	if _, err := r.Pseudonym(context.Background(), tenant, "k", "i"); err != nil {
		t.Fatal(err)
	}
	p := mustPlatform(t, firstPlatformKey)
	s := NewSigning(&memoryStore{}, mustWrapper(t, p, ForSigning), newClock().now)
	if err := s.Rotate(context.Background()); err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Open   any
		closed any
	}
	for name, v := range map[string]any{"Platform": p, "Local": r.wrapper, "Ring": r, "Signing": s, "values": []any{*p, holder{p, p}, &holder{r, *r.wrapper.(*Local)}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			text := fmt.Sprintf(verb, v)
			holdsNoKey(t, name+" as "+verb, text)
			if name != "values" && text != "[secret]" {
				t.Errorf("%s as %s is %.80q", name, verb, text)
			}
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Errorf("json of %s: %v", name, err)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
		holdsNoKey(t, name+" in json or a log", string(j)+log.String())
	}
}

func dumpChild() int {
	if err := DenyDump(); err != nil {
		return 3
	}
	return dumpable()
}

func TestDenyDump(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("skipped: PR_SET_DUMPABLE is Linux's")
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), child+"=dump")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
