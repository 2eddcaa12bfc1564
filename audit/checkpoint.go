package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxCheckpoint is how long a signed checkpoint may be, with the cosignatures of all its witnesses.
const MaxCheckpoint = 64 << 10

// Checkpoint says what a log was at one time: its first Size entries have this root. Signed, it is a C2SP tlog-checkpoint.
type Checkpoint struct {
	Origin string // the log's name everywhere: see Origin
	Size   int64
	Root   [32]byte
}

// Origin is the name of a tenant's log at a host: "<host>/audit/<log id>". The note key that signs it has the same name.
func Origin(host string, log LogID) string { return host + "/audit/" + log.String() }

// Log is the log that the origin names. Origins are printed, so nothing but visible ASCII may be in them.
func (c Checkpoint) Log() (LogID, error) {
	host, name, ok := strings.Cut(c.Origin, "/audit/")
	hidden := strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f })
	var log LogID
	if !ok || hidden || host == "" || log.UnmarshalText([]byte(name)) != nil {
		return LogID{}, fmt.Errorf("audit.Checkpoint.Log: %q does not name a log", c.Origin)
	}
	return log, nil
}

// Sign makes the signed note. Whoever calls it must have made sure that this checkpoint does not contradict an earlier
// one: a signature cannot be taken back. The first signer is the log's own, and is named as the log is.
func (c Checkpoint) Sign(signers ...note.Signer) ([]byte, error) {
	if len(signers) == 0 || signers[0].Name() != c.Origin {
		return nil, errors.New("audit.Checkpoint.Sign: the first key is not named as the log is")
	}
	if c.Size < 0 || c.Size > MaxSize {
		return nil, fmt.Errorf("audit.Checkpoint.Sign: the size is not from 0 to %d", int64(MaxSize))
	}
	text := torchwood.Checkpoint{Origin: c.Origin, Tree: tlog.Tree{N: c.Size, Hash: c.Root}}.String()
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		return nil, fmt.Errorf("audit.Checkpoint.Sign: %w", err)
	}
	return signed, nil
}

// OpenCheckpoint reads a checkpoint and checks that the log's key signed it and that it is of the log that the key is
// named for. Signatures by others (witnesses) are not judged here.
func OpenCheckpoint(signed []byte, vkey string) (Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("audit.OpenCheckpoint: it is longer than %d bytes", MaxCheckpoint)
	}
	policy, err := logPolicy(vkey)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("audit.OpenCheckpoint: %w", err)
	}
	c, n, err := torchwood.VerifyCheckpoint(signed, policy)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("audit.OpenCheckpoint: %w", err)
	}
	if c.N > MaxSize || c.Extension != "" {
		return Checkpoint{}, errors.New("audit.OpenCheckpoint: the size is too large, or lines follow the root")
	}
	if err := strictSignatures(signed, n); err != nil {
		return Checkpoint{}, fmt.Errorf("audit.OpenCheckpoint: %w", err)
	}
	return Checkpoint{Origin: c.Origin, Size: c.N, Root: c.Hash}, nil
}

// logPolicy reads a note verifier key. x/mod takes any case for its hexadecimal digits, and line breaks; here a key has
// one spelling.
func logPolicy(vkey string) (torchwood.Policy, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("the verifier key: %w", err)
	}
	key, ok := strings.CutPrefix(vkey, fmt.Sprintf("%s+%08x+", v.Name(), v.KeyHash()))
	if _, err := oneBase64([]byte(key)); err != nil || !ok {
		return nil, errors.New("the verifier key is not in its one form")
	}
	return torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(v.Name()), torchwood.SingleVerifierPolicy(v)), nil
}

// strictSignatures refuses what note.Open lets pass: repeated lines, and base64 with stray bits at its end.
func strictSignatures(signed []byte, n *note.Note) error {
	sigs := append(append([]note.Signature{}, n.Sigs...), n.UnverifiedSigs...)
	if strings.Count(string(signed), "\n") != strings.Count(n.Text, "\n")+1+len(sigs) {
		return errors.New("a signature is there twice")
	}
	for _, s := range sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return errors.New("a signature is not in its one form")
		}
	}
	return nil
}
