package secret

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const plain = "correct horse battery staple"

// leaks reports whether s shows the secret in any form that fmt or an encoder could give it.
func leaks(s string) bool {
	list := strings.Trim(fmt.Sprint([]byte(plain)), "[]")
	goList := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(plain)), "[]byte{"), "}")
	for _, form := range []string{plain, hex.EncodeToString([]byte(plain)), strings.ToUpper(hex.EncodeToString([]byte(plain))), list, goList} {
		if strings.Contains(s, form) {
			return true
		}
	}
	return strings.Contains(s, "horse")
}

func TestLeakDetectorDetects(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"%v", "%s", "%x", "%X", "%#v", "%q", "%d"} {
		if s := fmt.Sprintf(verb, []byte(plain)); !leaks(s) {
			t.Errorf("the detector does not see %s", s)
		}
	}
}

type open struct {
	Key  Bytes
	Word String
	Ptr  *Bytes
}

func TestPrintsSecret(t *testing.T) {
	t.Parallel()
	b, w := Own([]byte(plain)), Text(plain)
	values := []any{b, &b, w, &w, open{b, w, &b}, &open{b, w, &b}, []Bytes{b}, map[string]String{"k": w}, map[String]int{w: 1}}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%t", "%p", "%T %v", "% x"} {
			args := []any{v}
			if strings.Count(verb, "%") == 2 {
				args = append(args, v)
			}
			if s := fmt.Sprintf(verb, args...); leaks(s) {
				t.Errorf("%s of %T leaks", verb, v)
			}
		}
		if j, err := json.Marshal(v); err != nil || leaks(string(j)) || !bytes.Contains(j, []byte(redacted)) {
			t.Errorf("json of %T: %v, leaks %v", v, err, leaks(string(j)))
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
		if leaks(log.String()) {
			t.Errorf("slog of %T leaks", v)
		}
	}
	for _, v := range []any{b, w} {
		if s := fmt.Sprintf("%v %s %x %#v", v, v, v, v); s != "[secret] [secret] [secret] [secret]" {
			t.Errorf("%T prints as %q", v, s)
		}
	}
	if x, err := xml.Marshal(w); err != nil || leaks(string(x)) {
		t.Errorf("xml leaks or fails: %v", err)
	}
}

type closed struct {
	key  Bytes
	word String
	many []Bytes
}

func TestUnexportedField(t *testing.T) {
	t.Parallel()
	v := closed{Own([]byte(plain)), Text(plain), []Bytes{Own([]byte(plain))}}
	for _, x := range []any{v, &v, []closed{v}, map[int]closed{1: v}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			if leaks(fmt.Sprintf(verb, x)) {
				t.Errorf("%s of %T leaks through an unexported field", verb, x)
			}
		}
	}
}

func TestClear(t *testing.T) {
	t.Parallel()
	raw := []byte(plain)
	s := Own(raw)
	if s.IsZero() || string(s.Expose()) != plain || !s.Equal(Own([]byte(plain))) || s.Equal(Own([]byte("other"))) {
		t.Fatal("a secret does not hold what it was made of")
	}
	s.Clear()
	if !bytes.Equal(raw, make([]byte, len(plain))) {
		t.Error("Clear left bytes behind")
	}
	var none Bytes
	none.Clear()
	if !none.IsZero() || !(String{}).IsZero() {
		t.Error("the zero values are not zero")
	}
}

func TestUnmarshal(t *testing.T) {
	t.Parallel()
	var c struct{ Word String }
	if err := json.Unmarshal([]byte(`{"Word":"correct horse"}`), &c); err != nil || c.Word.Expose() != "correct horse" {
		t.Errorf("unmarshalling: %v", err)
	}
}
