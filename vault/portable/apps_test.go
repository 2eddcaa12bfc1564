package portable

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/scrypt"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/secret"
)

// The files of testdata hold what apps write; those that are encrypted were made with another language's libraries, from Aegis' own
// description and from a backup of 2FAS.

func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const password = "correct horse"

// reads holds what a format reads, and what it says of the rest.
func reads(t *testing.T, f Format, name, password string, want []plain, faults ...string) {
	t.Helper()
	r, err := Read(context.Background(), f, file(t, name), secret.Text(password))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	for i := range want {
		want[i].Key = helloBytes
	}
	if d := cmp.Diff(want, all(r)); d != "" {
		t.Errorf("%s: %s", name, d)
	}
	if got := fmt.Sprint(r.Faults); len(r.Faults) != len(faults) || len(faults) > 0 && !strings.Contains(got, faults[0]) {
		t.Errorf("%s: faults %s, want %q", name, got, faults)
	}
	if g := Guess(file(t, name)); g != f {
		t.Errorf("%s: guessed %q", name, g)
	}
	if r.Sealed != (password != "") {
		t.Errorf("%s: sealed is %v", name, r.Sealed)
	}
}

var (
	eight = otp.Scheme{Algorithm: otp.SHA256, Digits: 8}
	steam = plain{Kind: otp.Steam, Issuer: "Steam", Account: "gabe", Scheme: otp.OfSteam()}
)

func TestAegis(t *testing.T) {
	t.Parallel()
	shared := steam
	shared.Folder = "Shared"
	want := []plain{
		{Kind: otp.TOTP, Issuer: "Example", Account: "alice@google.com", Scheme: otp.Usual(), Folder: "Work", Tags: "Shared", Notes: "first"},
		{Kind: otp.HOTP, Issuer: "Counter", Account: "b", Scheme: eight, Counter: 7},
		shared,
	}
	reads(t, FormatAegis, "aegis.json", "", want, "entry 4 (Mobile: m): its algorithm")
	reads(t, FormatAegis, "aegis-encrypted.json", password, want, "entry 4 (Mobile: m): its algorithm")
	older := `{"version":1,"header":{"slots":null,"params":null},"db":{"version":2,"entries":[{"type":"totp","name":"b","issuer":"A","group":"Work","info":{"secret":"JBSWY3DPEHPK3PXP","algo":"SHA1","digits":6,"period":30}}]}}`
	if r, err := Aegis(context.Background(), []byte(older), secret.String{}); err != nil || len(r.Entries) != 1 || r.Entries[0].Folder != "Work" {
		t.Errorf("of version 2: %v, %v", all(r), err)
	}
}

func TestTwoFAS(t *testing.T) {
	t.Parallel()
	want := []plain{
		{Kind: otp.TOTP, Issuer: "Example", Account: "alice@google.com", Scheme: otp.Usual(), Folder: "Work"},
		{Kind: otp.TOTP, Issuer: "Bare", Scheme: otp.Usual()},
		{Kind: otp.HOTP, Issuer: "Counter", Account: "b", Scheme: eight, Counter: 7},
		steam,
	}
	reads(t, Format2FAS, "2fas.json", "", want, "entry 5 (Old hash: c): its algorithm")
	reads(t, Format2FAS, "2fas-encrypted.json", password, want, "entry 5 (Old hash: c): its algorithm")
}

func TestBitwarden(t *testing.T) {
	t.Parallel()
	long := eight
	long.Period = 30
	for name, password := range map[string]string{"bitwarden.json": "", "bitwarden-pbkdf2.json": password, "bitwarden-argon2.json": password} {
		reads(t, FormatBitwarden, name, password, []plain{
			{Kind: otp.TOTP, Issuer: "Example", Account: "alice@google.com", Scheme: long, Folder: "Work", Notes: "first"},
			{Kind: otp.TOTP, Issuer: "Bare", Account: "b", Scheme: otp.Usual()},
			steam,
		}, "entry 6 (Odd: d): its seed is an address")
	}
	r, err := Bitwarden(file(t, "bitwarden.json"), secret.String{})
	if err != nil || r.Others != 2 {
		t.Errorf("%d without a seed, %v", r.Others, err)
	}
}

// TestBitwardenSealed: what is encrypted under a password is opened by that alone; what was altered is opened by none, nor what would
// cost too much; and what only its account can open is refused with what to do.
func TestBitwardenSealed(t *testing.T) {
	t.Parallel()
	quick := string(file(t, "bitwarden-quick.json"))
	costly := string(file(t, "bitwarden-argon2.json"))
	parts := regexp.MustCompile(`"data": "2\.([^|]+)\|([^|]+)\|([^"]+)"`).FindStringSubmatch(quick)
	for name, c := range map[string]struct {
		data, password, want string
		err                  error
	}{
		"no password":       {quick, "", "", ErrEncrypted},
		"another":           {quick, "correct hors", "", ErrPassword},
		"another cost":      {strings.Replace(quick, `"kdfIterations": 5000`, `"kdfIterations": 4999`, 1), password, "", ErrPassword},
		"an account's":      {`{"encrypted": true, "encKeyValidation_DO_NOT_EDIT": "2.a|b|c", "folders": [], "items": []}`, password, "export it with a password", ErrFormat},
		"many rounds":       {strings.Replace(quick, `"kdfIterations": 5000`, `"kdfIterations": 2000001`, 1), password, "rounds", ErrFormat},
		"no rounds":         {strings.Replace(quick, `"kdfIterations": 5000`, `"kdfIterations": 0`, 1), password, "rounds", ErrFormat},
		"much memory":       {strings.Replace(costly, `"kdfMemory": 64`, `"kdfMemory": 257`, 1), password, "256 MiB", ErrFormat},
		"no memory":         {strings.Replace(costly, `"kdfMemory": 64`, `"kdfMemory": 0`, 1), password, "256 MiB", ErrFormat},
		"many passes":       {strings.Replace(costly, `"kdfIterations": 3`, `"kdfIterations": 17`, 1), password, "1024", ErrFormat},
		"no passes":         {strings.Replace(costly, `"kdfIterations": 3`, `"kdfIterations": 0`, 1), password, "1024", ErrFormat},
		"many lanes":        {strings.Replace(costly, `"kdfParallelism": 4`, `"kdfParallelism": 17`, 1), password, "1024", ErrFormat},
		"no lanes":          {strings.Replace(costly, `"kdfParallelism": 4`, `"kdfParallelism": 0`, 1), password, "1024", ErrFormat},
		"another way":       {strings.Replace(quick, `"kdfType": 0`, `"kdfType": 2`, 1), password, "not known", ErrFormat},
		"another kind":      {strings.Replace(quick, `"data": "2.`, `"data": "7.`, 1), password, "not known", ErrFormat},
		"two parts":         {strings.Replace(quick, "|"+parts[3], "", 1), password, "not known", ErrFormat},
		"no base64":         {strings.Replace(quick, parts[2], "!"+parts[2], 1), password, "not base64", ErrFormat},
		"a short nonce":     {strings.Replace(quick, parts[1], "AAAA", 1), password, "cut off", ErrFormat},
		"no text":           {strings.Replace(quick, parts[2], "", 1), password, "cut off", ErrFormat},
		"a part of a block": {strings.Replace(quick, parts[2], "AAAA"+parts[2], 1), password, "cut off", ErrFormat},
		"a short seal":      {strings.Replace(quick, parts[3], "AAAA", 1), password, "cut off", ErrFormat},
	} {
		r, err := Read(t.Context(), FormatBitwarden, []byte(c.data), secret.Text(c.password))
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.want) || len(r.Entries) > 0 || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for at, name := range map[int]string{1: "the nonce", 2: "the text", 3: "the seal"} {
		altered := quick
		p := regexp.MustCompile(`"data": "2\.([^|]+)\|([^|]+)\|([^"]+)"`).FindStringSubmatchIndex(altered)
		i := p[2*at] + 4
		letter := byte('A')
		if altered[i] == 'A' {
			letter = 'B'
		}
		altered = altered[:i] + string(letter) + altered[i+1:]
		if _, err := Read(t.Context(), FormatBitwarden, []byte(altered), secret.Text(password)); !errors.Is(err, ErrPassword) {
			t.Errorf("%s altered: %v", name, err)
		}
	}
	if !Heavy(FormatBitwarden, secret.Text(password)) || Heavy(FormatBitwarden, secret.String{}) {
		t.Error("an encrypted one is not heavy, or one in clear is")
	}
}

// TestBitwardenWithin: what is encrypted must be an export in clear, and end as the way of encrypting has it.
func TestBitwardenWithin(t *testing.T) {
	t.Parallel()
	s := sealedFile{Protected: true, Salt: "salt", Iterations: 1}
	master, err := s.key(secret.Text(password))
	if err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Expand(sha256.New, master, "enc", 32)
	if err != nil {
		t.Fatal(err)
	}
	seal, err := hkdf.Expand(sha256.New, master, "mac", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	const clear = `{"encrypted":false,"items":[{"name":"A","login":{"totp":"` + hello + `"}}]}`
	padded := func(text string, pad int) string { // JSON may end in blanks
		return text + strings.Repeat(" ", (32-pad-len(text)%16)%16) + strings.Repeat(string(rune(pad)), pad)
	}
	whole := padded(clear, 3)
	for name, c := range map[string]struct{ text, want string }{
		"right": {whole, ""}, "a whole block": {padded(clear, 16), ""},
		"no end": {whole[:len(whole)-1] + "\x00", "does not end"}, "an end of 17": {whole[:len(whole)-1] + "\x11", "does not end"},
		"encrypted again": {padded(strings.Replace(clear, "false", "true", 1), 3), "in clear"}, "no JSON": {padded("hello", 3), "in clear"},
	} {
		nonce, text := make([]byte, 16), []byte(c.text)
		cipher.NewCBCEncrypter(block, nonce).CryptBlocks(text, text)
		m := hmac.New(sha256.New, seal)
		m.Write(append(nonce, text...))
		file := fmt.Sprintf(`{"encrypted":true,"passwordProtected":true,"salt":"salt","kdfType":0,"kdfIterations":1,"data":"2.%s|%s|%s"}`,
			base64.StdEncoding.EncodeToString(nonce), base64.StdEncoding.EncodeToString(text), base64.StdEncoding.EncodeToString(m.Sum(nil)))
		r, err := Bitwarden([]byte(file), secret.Text(password))
		if (c.want == "") != (err == nil) || (err == nil) != (len(r.Entries) == 1) || err != nil && (!errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, %v, want %q", name, all(r), err, c.want)
		}
	}
}

// TestAegisSlots: a few passwords are tried, one after the other, as long as somebody waits for it.
func TestAegisSlots(t *testing.T) {
	t.Parallel()
	data := string(file(t, "aegis-encrypted.json"))
	begin, end := strings.Index(data, `"slots": [`)+len(`"slots": [`), strings.Index(data, `"params"`)
	end = begin + strings.LastIndex(data[begin:end], "]")
	right := quickly(t, data[begin:end])
	wrong := regexp.MustCompile(`"tag": "[0-9a-f]{4}`).ReplaceAllString(right, `"tag": "0000`)
	with := func(slots ...string) []byte { return []byte(data[:begin] + strings.Join(slots, ",") + data[end:]) }
	finger := strings.Replace(wrong, `"type": 1`, `"type": 2`, 1)
	if finger == wrong || wrong == right {
		t.Fatal("the file is not as this test has it")
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"the last of four":        {with(wrong, wrong, wrong, right), nil},
		"the last of many":        {with(finger, finger, finger, finger, finger, wrong, right), nil},
		"the fifth":               {with(wrong, wrong, wrong, wrong, right), ErrFormat},
		"none":                    {with(finger), ErrPassword},
		"a nonce of 11 bytes":     {with(regexp.MustCompile(`"nonce": "..`).ReplaceAllString(right, `"nonce": "`)), ErrPassword},
		"a nonce of the file":     {[]byte(regexp.MustCompile(`("params": \{\s*"nonce": ")..`).ReplaceAllString(string(with(right)), "$1")), ErrFormat},
		"no nonce":                {[]byte(regexp.MustCompile(`("params": \{\s*"nonce": ")[0-9a-f]+`).ReplaceAllString(string(with(right)), "$1")), ErrFormat},
		"two at once":             {with(strings.Replace(right, `"p": 1`, `"p": 2`, 1)), ErrFormat},
		"none at all":             {with(strings.Replace(right, `"p": 1`, `"p": 0`, 1)), ErrFormat},
		"a little over":           {with(strings.Replace(right, `"n": 2`, `"n": 131072`, 1)), ErrFormat},
		"no power of two":         {with(strings.Replace(right, `"n": 2`, `"n": 32767`, 1)), ErrFormat},
		"as much as there can be": {with(strings.Replace(wrong, `"n": 2`, `"n": 65536`, 1)), ErrPassword},
	} {
		if _, err := Aegis(t.Context(), c.data, secret.Text(password)); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Aegis(gone, []byte(data), secret.Text(password)); !errors.Is(err, context.Canceled) {
		t.Errorf("of who went: %v", err)
	}
}

// quickly is a slot of the file that is opened as fast as can be.
func quickly(t *testing.T, slots string) string {
	t.Helper()
	var all []map[string]any
	var parsed []aegisSlot
	if err := errors.Join(json.Unmarshal([]byte("["+slots+"]"), &all), json.Unmarshal([]byte("["+slots+"]"), &parsed)); err != nil {
		t.Fatal(err)
	}
	slot, s := all[1], parsed[1]
	key, err := scrypt.Key([]byte(password), s.Salt, s.N, s.R, s.P, 32)
	if err != nil {
		t.Fatal(err)
	}
	master, err := openGCM(key, s.KeyParams.Nonce, s.Key, s.KeyParams.Tag)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = scrypt.Key([]byte(password), s.Salt, 2, s.R, s.P, 32); err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	sealed := gcm.Seal(nil, s.KeyParams.Nonce, master, nil)
	slot["n"], slot["key"] = 2, hex.EncodeToString(sealed[:32])
	slot["key_params"] = map[string]string{"nonce": hex.EncodeToString(s.KeyParams.Nonce), "tag": hex.EncodeToString(sealed[32:])}
	text, err := json.MarshalIndent(slot, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCSV(t *testing.T) {
	t.Parallel()
	reads(t, FormatCSV, "table.csv", "", []plain{
		{Kind: otp.TOTP, Issuer: "Example", Account: "alice@google.com", Scheme: otp.Usual(), Folder: "Work", Tags: "a b", Notes: "two\nlines"},
		{Kind: otp.HOTP, Issuer: "Counter", Account: "b", Scheme: eight, Counter: 7},
		steam,
		{Kind: otp.TOTP, Issuer: "Whole, with a comma", Account: "c", Scheme: otp.Scheme{Algorithm: otp.SHA512, Digits: 7, Period: 60}},
	}, "line 8: its digits")
	for text, want := range map[string]int{
		"name;secret\nA;" + hello: 1, "\ufeffname\tsecret\nA\t" + hello: 1, "login_username,login_totp,name\nb," + hello + ",A\nc,,B\n": 1, "secret,name\r\n" + hello + ",A\r\n": 1,
	} {
		if r, err := CSV(text); err != nil || len(r.Entries) != want || len(r.Faults) > 0 {
			t.Errorf("%q: %d entries, %v, %v", text, len(r.Entries), r.Faults, err)
		}
	}
}

// TestCSVOfManagers is what password managers export, by their own names of columns: logins with a seed, and what is passed over.
func TestCSVOfManagers(t *testing.T) {
	t.Parallel()
	const uri = "otpauth://totp/GitHub:ada?secret=" + hello + "&issuer=GitHub&algorithm=SHA256&digits=8&period=60"
	usual, whole := plain{Kind: otp.TOTP, Issuer: "GitHub", Account: "ada", Scheme: otp.Usual()}, plain{Kind: otp.TOTP, Issuer: "GitHub", Account: "ada", Scheme: otp.Scheme{Algorithm: otp.SHA256, Digits: 8, Period: 60}}
	valve := plain{Kind: otp.Steam, Issuer: "Steam", Account: "gabe", Scheme: otp.OfSteam()}
	of := func(p plain, folder, notes, tags string) plain {
		p.Folder, p.Notes, p.Tags = folder, notes, tags
		return p
	}
	for name, c := range map[string]struct {
		lines  []string
		want   []plain
		others int
	}{
		"Bitwarden": {[]string{
			"folder,favorite,type,name,notes,fields,reprompt,login_uri,login_username,login_password,login_totp",
			"Work,1,login,GitHub,first,,0,https://github.com,ada,pw," + hello, ",,login,GitHub,,\"a: b\nc: d\",0,,ada,pw," + uri, ",,login,Steam,,,0,,gabe,pw,steam://" + hello,
			",,login,None,,,0,,x,pw,", ",,note,Note,\"two\nlines\",,0,,,,",
		}, []plain{of(usual, "Work", "first", ""), whole, valve}, 2},
		"Proton Pass": {[]string{
			"type,name,url,email,username,password,note,totp,createTime,modifyTime,vault",
			"login,GitHub,https://github.com,ada@example.com,ada,pw,first," + uri + ",1700000000,1700000000,Personal", "login,GitHub,,ada,,pw,," + hello + ",1,1,Personal",
			"alias,Alias,,x@passmail.net,,,,,1,1,Personal", "note,Note,,,,,text,,1,1,Personal", "creditCard,Card,,,,,\"{\"\"a\"\":1}\",,1,1,Personal",
		}, []plain{of(whole, "Personal", "first", ""), of(usual, "Personal", "", "")}, 3},
		"1Password": {[]string{
			"Title,Url,Username,Password,OTPAuth,Favorite,Archived,Tags,Notes", "GitHub,https://github.com,ada,pw," + uri + ",false,false,a;b,first", "None,,x,pw,,false,false,,",
		}, []plain{of(whole, "", "first", "a b")}, 1},
		"KeePassXC": {[]string{
			`"Group","Title","Username","Password","URL","Notes","TOTP","Icon","Last Modified","Created"`, `"Root/Work","GitHub","ada","pw","https://github.com","first","` + uri + `","0","2026-01-01T00:00:00Z","2026-01-01T00:00:00Z"`, `"Root","None","x","pw","","","","0","",""`,
		}, []plain{of(whole, "Root/Work", "first", "")}, 1},
		"LastPass": {[]string{"url,username,password,totp,extra,name,grouping,fav", "https://github.com,ada,pw," + hello + ",first,GitHub,Work,0", "http://sn,,,,NoteType:Server,Note,,0"}, []plain{of(usual, "Work", "first", "")}, 1},
		"Apple":    {[]string{"Title,URL,Username,Password,Notes,OTPAuth", "GitHub,https://github.com,ada,pw,first," + uri}, []plain{of(whole, "", "first", "")}, 0},
		"Dashlane": {[]string{"username,username2,username3,title,password,note,url,category,otpUrl", "ada,,,GitHub,pw,first,https://github.com,Work," + uri}, []plain{of(whole, "Work", "first", "")}, 0},
	} {
		text := strings.Join(c.lines, "\n") + "\n"
		r, err := Read(t.Context(), FormatCSV, []byte(text), secret.String{})
		for i := range c.want {
			c.want[i].Key = helloBytes
		}
		if d := cmp.Diff(c.want, all(r)); err != nil || len(r.Faults) > 0 || r.Others != c.others || d != "" || Guess([]byte(text)) != FormatCSV {
			t.Errorf("%s: %v, %v, %d others\n%s", name, err, r.Faults, r.Others, d)
		}
	}
	if r, err := CSV("type,name,totp\ntotp,Steam,steam://" + hello); err != nil || len(r.Entries) != 1 || r.Entries[0].Kind != otp.Steam {
		t.Errorf("an address of Steam's: %v, %v", all(r), err)
	}
	for _, row := range []string{"yaotp,A," + hello, "hotpp,A," + hello, "login,A,https://example.com"} {
		if r, err := CSV("type,name,totp\n" + row); err != nil || len(r.Faults) != 1 {
			t.Errorf("%s: %v, %v", row, all(r), err)
		}
	}
}

// TestWhole is what is wrong with something as a whole.
func TestWhole(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		format   Format
		data     string
		password string
		want     error
	}{
		{FormatAegis, "{", "", ErrFormat}, {FormatAegis, "{}", "", ErrFormat}, {FormatAegis, `{"header":{"params":{"nonce":"00","tag":"00"}},"db":{}}`, "", ErrFormat},
		{FormatAegis, string(file(t, "aegis-encrypted.json")), "", ErrEncrypted}, {FormatAegis, string(file(t, "aegis-encrypted.json")), "wrong", ErrPassword},
		{FormatAegis, strings.Replace(string(file(t, "aegis-encrypted.json")), `"db": "`, `"db": "AAAA`, 1), password, ErrFormat},
		{Format2FAS, "[]", "", ErrFormat}, {Format2FAS, "{}", "", ErrFormat}, {Format2FAS, `{"servicesEncrypted":"AA==:AA=="}`, "x", ErrFormat},
		{Format2FAS, string(file(t, "2fas-encrypted.json")), "", ErrEncrypted}, {Format2FAS, string(file(t, "2fas-encrypted.json")), "wrong", ErrPassword},
		{FormatBitwarden, "{}", "", ErrFormat}, {FormatBitwarden, string(file(t, "aegis.json")), "", ErrFormat},
		{FormatCSV, "", "", ErrFormat}, {FormatCSV, "name,account\nA,b", "", ErrFormat}, {FormatCSV, "secret,seed\nA,b", "", ErrFormat}, {FormatCSV, "secret\n\"", "", ErrFormat}, {FormatCSV, "secret\n", "", ErrFormat},
		{FormatURI, "\n \n", "", ErrFormat}, {FormatQR, "no picture", "", ErrFormat}, {"keepass", "x", "", ErrFormat},
		{FormatURI, strings.Repeat("x\n", MostEntries+1), "", ErrFormat}, {FormatURI, strings.Repeat("x", MostBytes+1), "", ErrFormat},
	} {
		r, err := Read(context.Background(), c.format, []byte(c.data), secret.Text(c.password))
		if !errors.Is(err, c.want) || len(r.Entries)+len(r.Faults) > 0 {
			t.Errorf("%s %.40q: %v, want %v", c.format, c.data, err, c.want)
		}
	}
}

// TestBombs: what asks for more work or memory than it is worth is refused before any of it is done.
func TestBombs(t *testing.T) {
	t.Parallel()
	data := file(t, "aegis-encrypted.json")
	for _, cost := range []string{`"n": 1073741824`, `"n": 9223372036854775807`, `"n": 0`, `"n": -1`} {
		if _, err := Aegis(context.Background(), bytes.Replace(data, []byte(`"n": 32768`), []byte(cost), 1), secret.Text(password)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", cost, err)
		}
	}
	for _, cost := range []string{`"r": 1048576`, `"p": 1048576`} {
		old := strings.Replace(strings.Replace(cost, "1048576", "8", 1), `"p": 8`, `"p": 1`, 1)
		if _, err := Aegis(context.Background(), bytes.Replace(data, []byte(old), []byte(cost), 1), secret.Text(password)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", cost, err)
		}
	}
	if _, err := Picture(context.Background(), header(100_000, 100_000)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "pixels") {
		t.Errorf("a picture of ten thousand million pixels: %v", err)
	}
}

func FuzzAegis(f *testing.F) {
	f.Add(file(f, "aegis.json"), "")
	f.Fuzz(func(t *testing.T, data []byte, password string) {
		if bytes.Contains(data, []byte(`"salt"`)) {
			t.Skip("skipped: each password that is tried takes 100 ms")
		}
		_, _ = Read(context.Background(), FormatAegis, data, secret.Text(password))
	})
}

func FuzzTwoFAS(f *testing.F) {
	f.Add(file(f, "2fas.json"), "")
	f.Add(file(f, "2fas-encrypted.json"), password)
	f.Fuzz(func(_ *testing.T, data []byte, password string) {
		_, _ = Read(context.Background(), Format2FAS, data, secret.Text(password))
	})
}

func FuzzBitwarden(f *testing.F) {
	f.Add(file(f, "bitwarden.json"))
	f.Add(file(f, "bitwarden-pbkdf2.json"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = Read(context.Background(), FormatBitwarden, data, secret.String{})
	})
}

func FuzzCSV(f *testing.F) {
	f.Add(file(f, "table.csv"))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = Read(context.Background(), FormatCSV, data, secret.String{}) })
}
