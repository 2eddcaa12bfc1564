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
