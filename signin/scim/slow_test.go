package scim

import (
	"fmt"
	"testing"
	"time"
)

// TestManyMembersAtOnce: what one request may hold is applied in no time: it is applied while the organisation's head is locked.
func TestManyMembersAtOnce(t *testing.T) {
	t.Parallel()
	const most = 60_000 // of 4 MiB
	values := make([]any, most)
	for i := range values {
		values[i] = map[string]any{"value": fmt.Sprintf("%08x-0000-7000-8000-000000000000", i)}
	}
	began, g := time.Now(), map[string]any{"members": []any{}}
	for _, op := range []string{"add", "add", "remove"} {
		if err := Apply(g, []Operation{{op, "members", values}}); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := g["members"].([]any); len(left) != 0 {
		t.Errorf("%d are left", len(left))
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestManyOperationsAtOnce: the organisation waits while a PATCH is applied, so that an operation must not make something of each member.
func TestManyOperationsAtOnce(t *testing.T) {
	list, ops := make([]any, 2000), []Operation{}
	for i := range list {
		list[i] = map[string]any{"value": fmt.Sprintf("%08x-0000-7000-8000-000000000000", i)}
	}
	for i := range 50 {
		one := []any{map[string]any{"value": fmt.Sprint("new ", i)}}
		ops = append(ops, Operation{"add", "members", one}, Operation{"remove", "members", one})
	}
	made := testing.AllocsPerRun(3, func() {
		if err := Apply(map[string]any{"members": append([]any{}, list...)}, ops); err != nil {
			t.Fatal(err)
		}
	})
	if most := float64(50 * len(ops)); made > most {
		t.Errorf("%.0f allocations for %d operations on %d members, want at most %.0f", made, len(ops), len(list), most)
	}
}
