package scim

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestLimitsAreDocumented: the page says how much a directory may have.
func TestLimitsAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/sso.md")
	if err != nil {
		t.Fatal(err)
	}
	for what, most := range map[string]int{" groups,": maxGroups, " members each": maxMembers, " operations;": maxOperations} {
		n := strconv.Itoa(most)
		if said := n[:len(n)-3] + "," + n[len(n)-3:] + what; !strings.Contains(string(page), "at most "+said) {
			t.Errorf("docs/sso.md does not say: at most %s", said)
		}
	}
}
