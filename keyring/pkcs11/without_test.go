//go:build !pkcs11

package pkcs11

import (
	"strings"
	"testing"
)

func TestBuiltWithout(t *testing.T) {
	t.Parallel()
	if w, err := New(Config{Module: "x", Token: "x", Key: "x"}); w != nil || err == nil || !strings.Contains(err.Error(), "-tags pkcs11") {
		t.Errorf("%v, %v", w, err)
	}
}
