package gateway

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// Lists of revoked certificates (RFC 5280, section 5) of those who sign clients' certificates: one file with any number of
// lists, PEM or one in DER, read again as it changes. A client whose certificate, or that of an authority between it and the
// client CA, is on the list of its issuer is not let in, and connections that it has end. A list says until when it may be
// relied on: behind that nobody is let in by a certificate of its issuer, as the next list may name it. An authority of
// which there is no list revokes nothing.

// revocations are the lists of a file, by the raw subject of their issuers.
type revocations map[string]*revocationList

type revocationList struct {
	issuer string // for people
	until  time.Time
	serial map[string]bool
}

// maxRevocations bounds the file, bytes: an entry takes about 40.
const maxRevocations = 16 << 20

var errRevokedCertificate = errors.New("the certificate is revoked")

// loadRevocations reads a file whose lists have to be signed by the authorities of a PEM file.
func loadRevocations(path string, authorities []byte, now time.Time) (revocations, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var lists [][]byte
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "X509 CRL" {
			lists = append(lists, block.Bytes)
		}
	}
	if len(lists) == 0 {
		lists = [][]byte{raw}
	}
	var issuers []*x509.Certificate
	for rest := authorities; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		// What is no certificate signs none; the pool was made of the others.
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			issuers = append(issuers, c)
		}
	}
	out := revocations{}
	for i, der := range lists {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("%s: list %d: %w", path, i+1, err)
		}
		if err := signed(l, issuers); err != nil {
			return nil, fmt.Errorf("%s: the list of %.200q: %w", path, l.Issuer, err)
		}
		if now.After(l.NextUpdate) {
			return nil, fmt.Errorf("%s: the list of %.200q has expired at %s", path, l.Issuer, l.NextUpdate.UTC().Format(time.RFC3339))
		}
		key := string(l.RawIssuer)
		is := out[key]
		if is == nil {
			is = &revocationList{issuer: l.Issuer.String(), until: l.NextUpdate, serial: map[string]bool{}}
			out[key] = is
		}
		// Several of one issuer, as of two of its keys, count together.
		if l.NextUpdate.Before(is.until) {
			is.until = l.NextUpdate
		}
		for j := range l.RevokedCertificateEntries {
			if e := &l.RevokedCertificateEntries[j]; e.ReasonCode != removedFromList {
				is.serial[string(e.SerialNumber.Bytes())] = true
			}
		}
	}
	return out, nil
}

// removedFromList is the reason of an entry that takes an earlier one back (RFC 5280, 5.3.1).
const removedFromList = 8

func signed(l *x509.RevocationList, issuers []*x509.Certificate) error {
	err := errors.New("its issuer is not among the authorities of client-ca")
	for _, c := range issuers {
		if string(c.RawSubject) != string(l.RawIssuer) {
			continue
		}
		if err = l.CheckSignatureFrom(c); err == nil {
			return nil
		}
	}
	return err
}

// check tells why a client is not let in by a certificate that is good for one of these chains.
func (r revocations) check(chains [][]*x509.Certificate, now time.Time) error {
	var err error
	for _, chain := range chains {
		if err = r.checkChain(chain, now); err == nil {
			return nil
		}
	}
	return err
}

func (r revocations) checkChain(chain []*x509.Certificate, now time.Time) error {
	// The last one is trusted by itself.
	for i := range len(chain) - 1 {
		l := r[string(chain[i].RawIssuer)]
		switch {
		case l == nil:
		case l.serial[string(chain[i].SerialNumber.Bytes())]:
			return fmt.Errorf("%w: serial number %x of %.200q", errRevokedCertificate, chain[i].SerialNumber, l.issuer)
		case now.After(l.until):
			return fmt.Errorf("%w, perhaps: the list of %.200q has expired at %s", errRevokedCertificate, l.issuer, l.until.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// expired says which list may not be relied on any more, "" if each may.
func (r revocations) expired(now time.Time) string {
	for _, l := range r {
		if now.After(l.until) {
			return fmt.Sprintf("the list of certificates that %.200q revoked has expired at %s: its clients are not let in", l.issuer, l.until.UTC().Format(time.RFC3339))
		}
	}
	return ""
}
