package crowd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/tenantdb"
)

func soak() bool { return os.Getenv("AVOUCH_SOAK") == "1" }

// newRing makes keys without a database, with those of the platform and of one organisation.
func newRing(t testing.TB) (*keyring.Ring, tenantdb.TenantID) {
	t.Helper()
	dir := t.TempDir()
	_, err := keyring.CreatePlatformKeyFile(filepath.Join(dir, "platform.key"))
	must(t, err)
	platform, err := keyring.LoadPlatform(secret.String{}, filepath.Join(dir, "platform.key"))
	must(t, err)
	wrapper, err := platform.Wrapper(keyring.ForKeyStore)
	must(t, err)
	must(t, keyring.CreateStore(t.Context(), filepath.Join(dir, "keys"), wrapper))
	ring, err := keyring.New(t.Context(), keyring.Config{Dir: filepath.Join(dir, "keys"), Platform: platform})
	must(t, err)
	id := tenantdb.NewTenantID()
	must(t, ring.CreateTenant(t.Context(), tenantdb.Platform))
	must(t, ring.CreateTenant(t.Context(), id))
	return ring, id
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// crowd is what a process found that was crowded, in KiB and in calls.
type crowd struct {
	Idle, Peak, Permits            int
	Callers, Hashed, Refused, Late int
	Slowest                        time.Duration // of the refusals
}

// TestCrowdStaysSmallSoak: however many want a hash at once, a process grows by as many blocks of 64 MiB as it has permits, one more,
// and 32 MiB for everything else. The process is one of its own, since others' tests would be counted too.
func TestCrowdStaysSmallSoak(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("skipped: the measure is Linux's")
	}
	callers, permits := 16, []int{1, 2}
	if soak() {
		callers, permits = 200, []int{1, 4}
	}
	for _, n := range permits {
		c := crowded(t, callers, n)
		grown, most := c.Peak-c.Idle, (64*(n+1)+32)<<10
		t.Logf("measured: %d callers of %d permits, who come back until they have a hash: %d MiB idle, %d more at most (bound %d); %d refusals in between, the slowest after %v",
			callers, n, c.Idle>>10, grown>>10, most>>10, c.Refused, c.Slowest.Round(time.Millisecond))
		if c.Hashed != callers || c.Permits != n {
			t.Errorf("%d of %d callers have a hash, of %d permits", c.Hashed, callers, c.Permits)
		}
		if grown > most {
			t.Errorf("%d permits: it grew by %d KiB, more than %d", n, grown, most)
		}
		if grown < 64<<10 {
			t.Errorf("%d permits: it grew by %d KiB only: no hash took its memory, or the measure is none", n, grown)
		}
	}
}

func crowded(t *testing.T, callers, permits int) (c crowd) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrowdProcess$", "-test.count=1")
	cmd.Env = append(os.Environ(), "AVOUCH_TEST_CROWD="+strconv.Itoa(callers), "AVOUCH_TEST_PERMITS="+strconv.Itoa(permits))
	out, err := cmd.CombinedOutput()
	_, line, found := bytes.Cut(out, []byte("crowd: "))
	line, _, _ = bytes.Cut(line, []byte("\n"))
	if err != nil || !found {
		t.Fatalf("the process: %v\n%s", err, out)
	}
	must(t, json.Unmarshal(line, &c))
	return c
}

// TestCrowdProcess is the process of TestCrowdStaysSmallSoak, and nothing without it.
func TestCrowdProcess(t *testing.T) {
	callers, err := strconv.Atoi(os.Getenv("AVOUCH_TEST_CROWD"))
	if err != nil {
		return
	}
	permits, err := strconv.Atoi(os.Getenv("AVOUCH_TEST_PERMITS"))
	must(t, err)
	ring, id := newRing(t)
	r := password.New(password.Config{Ring: ring, Permits: permits})
	c := crowd{Callers: callers, Permits: permits, Idle: memory(t, "VmHWM")}
	stop := make(chan struct{})
	defer close(stop)
	go others(stop)
	var mu sync.Mutex
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for {
				begun := time.Now()
				_, err := r.Hash(t.Context(), password.Stranger, id, tenantdb.PersonID{1}, secret.Text("correct horse battery staple"))
				took := time.Since(begun)
				mu.Lock()
				if err == nil {
					c.Hashed++
					mu.Unlock()
					return
				}
				c.Refused++
				c.Slowest = max(c.Slowest, took)
				mu.Unlock()
				if !problem.Is(err, problem.Unavailable) {
					t.Error(err)
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	all.Wait()
	c.Peak = memory(t, "VmHWM")
	text, err := json.Marshal(c)
	must(t, err)
	fmt.Printf("crowd: %s\n", text)
}

// others is what else a server does meanwhile: small things, of which some stay, so that no block of 64 MiB finds the place of the
// last one as it was.
func others(stop <-chan struct{}) {
	kept := make([][]byte, 4096)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
			kept[i%len(kept)] = make([]byte, 64+i*7919%4096)
			if i%64 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}
}

// memory is a line of what the kernel says of this process, in KiB.
func memory(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), name+":")
	line, _, _ := strings.Cut(rest, "kB")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	must(t, err)
	return n
}
