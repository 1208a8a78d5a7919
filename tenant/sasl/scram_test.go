package sasl

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// The keys of RFC 7677's example (section 3): its client's proof is what the
// stored key must confirm, its server's signature what the server key gives.
func TestKeysOfTheExample(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	salted, err := pbkdf2.Key(sha256.New, "pencil", salt, 4096, 32)
	if err != nil {
		t.Fatal(err)
	}
	const auth = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	if got := base64.StdEncoding.EncodeToString(keyed(sha256.New, keyed(sha256.New, salted, "Server Key"), auth)); got != "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("server's signature %s", got)
	}
	clientKey := keyed(sha256.New, salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	proof := keyed(sha256.New, stored[:], auth)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	if got := base64.StdEncoding.EncodeToString(proof); got != "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=" {
		t.Errorf("client's proof %s", got)
	}
}

func TestNewCredential(t *testing.T) {
	for _, c := range []struct {
		mechanism, password string
		iterations          int
		want                error
	}{
		{ScramSHA256, "p", 0, nil},
		{ScramSHA512, "pässword", MaxIterations, nil},
		{"PLAIN", "p", 0, ErrMechanism},
		{"", "p", 0, ErrMechanism},
		{ScramSHA256, "", 0, ErrPassword},
		{ScramSHA256, "\xff", 0, ErrPassword},
		{ScramSHA256, strings.Repeat("p", MaxPassword+1), 0, ErrPassword},
		{ScramSHA256, "p", MinIterations - 1, ErrIterations},
		{ScramSHA256, "p", MaxIterations + 1, ErrIterations},
		{ScramSHA256, "p", -1, ErrIterations},
	} {
		got, err := NewCredential(c.mechanism, c.password, c.iterations)
		if !errors.Is(err, c.want) {
			t.Errorf("%s, %d iterations: %v, want %v", c.mechanism, c.iterations, err, c.want)
		}
		if err != nil {
			if c.password != "" && c.password != "p" && strings.Contains(err.Error(), c.password) {
				t.Error("the password is in the error")
			}
			continue
		}
		h := scramHash(c.mechanism)
		salted, err := pbkdf2.Key(h, c.password, got.Salt, got.Iterations, h().Size())
		if err != nil {
			t.Fatal(err)
		}
		stored := h()
		stored.Write(keyed(h, salted, "Client Key"))
		if !bytes.Equal(stored.Sum(nil), got.StoredKey) || !bytes.Equal(keyed(h, salted, "Server Key"), got.ServerKey) {
			t.Errorf("%s: the keys do not follow from the password", c.mechanism)
		}
		if again, err := NewCredential(c.mechanism, c.password, c.iterations); err != nil || bytes.Equal(again.Salt, got.Salt) {
			t.Error("two credentials have one salt")
		}
	}
}
