package keyring

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// ringChild makes the keys of each tenant named, and of ten subjects of each, at the same time as its siblings; it says
// its pseudonym and what it sealed. It waits for a line on its input, so that all begin together.
func ringChild(dir string, tenants []string) int {
	ctx := context.Background()
	p, err := ParsePlatform([]byte(firstPlatformKey))
	if err != nil {
		return 3
	}
	w, err := p.Wrapper(ForKeyStore)
	if err != nil {
		return 3
	}
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	if err := CreateStore(ctx, dir, w); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 4
	}
	r, err := New(ctx, Config{Dir: dir, Platform: p})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 5
	}
	for _, name := range tenants {
		t, err := tenantdb.ParseTenantID(name)
		if err == nil {
			err = r.CreateTenant(ctx, t)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 6
		}
		pseudonym, err := r.Pseudonym(ctx, t, "k", "i")
		line := []string{name, pseudonym}
		for s := range 10 {
			sealed, sealErr := r.SealFields(ctx, t, audit.SubjectID{byte(s)}, []byte("plain"), nil)
			if err != nil || sealErr != nil {
				fmt.Fprintln(os.Stderr, err, sealErr)
				return 7
			}
			line = append(line, hex.EncodeToString(sealed))
		}
		fmt.Println(strings.Join(line, " "))
	}
	return 0
}

func TestManyProcessesCreateAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/keystore"
	var tenants []string
	for range 20 {
		tenants = append(tenants, tenantdb.NewTenantID().String())
	}
	const processes = 4
	var running [processes]*exec.Cmd
	var out, complaints [processes]strings.Builder
	var begin []func() error
	for i := range running {
		c := exec.Command(os.Args[0], append([]string{dir}, tenants...)...)
		c.Env = append(os.Environ(), child+"=ring")
		c.Stdout, c.Stderr = &out[i], &complaints[i]
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		running[i], begin = c, append(begin, func() error { _, err := in.Write([]byte("go\n")); return err })
	}
	for _, b := range begin {
		if err := b(); err != nil {
			t.Error(err)
		}
	}
	for i, c := range running {
		if err := c.Wait(); err != nil {
			t.Fatalf("%v: %s", err, complaints[i].String())
		}
	}
	// Whoever won: all saw the same keys, so a third opens what each of them sealed.
	r, seen := ringOn(t, dir, nil), map[string]string{}
	for i := range out {
		for line := range strings.Lines(out[i].String()) {
			f := strings.Fields(line)
			if seen[f[0]] == "" {
				seen[f[0]] = f[1]
			}
			if seen[f[0]] != f[1] {
				t.Fatalf("tenant %s has two pseudonym keys", f[0])
			}
			tenant, _ := tenantdb.ParseTenantID(f[0])
			for s, sealed := range f[2:] {
				b, _ := hex.DecodeString(sealed)
				if _, err := r.OpenFields(context.Background(), tenant, audit.SubjectID{byte(s)}, b, nil); err != nil {
					t.Fatalf("process %d, subject %d: %v", i, s, err)
				}
			}
		}
	}
	if len(seen) != len(tenants) {
		t.Errorf("%d tenants of %d", len(seen), len(tenants))
	}
	if left, err := os.ReadDir(r.store.tmp()); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
