package sasl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of what an issuer may send.
const (
	fetchTimeout = 10 * time.Second
	maxDocument  = 1 << 20
	maxKeys      = 100
)

// keys are an issuer's, cached.
//
// They are refreshed in the background while the cached ones serve, and at once
// for a key id that is not among them, as issuers rotate keys; not more often
// than cfg.Again, whatever tokens say, since anybody can make up key ids. With the
// issuer away, the cached ones serve on until cfg.Stale has passed since they
// were fetched: an issuer that took a key back may be the one that is cut off.
type keys struct {
	cfg OIDCConfig

	mu       sync.Mutex
	set      []jose.JSONWebKey
	fetched  time.Time     // when set was
	tried    time.Time     // when the latest fetch began
	failed   error         // of the latest fetch
	fetching chan struct{} // closed when the fetch under way ends; nil if there is none
	cancel   context.CancelFunc
	closed   bool
}

var errNoKeys = errors.New("the issuer's keys are not there")

// VerifySignature implements oidc.KeySet.
func (k *keys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	algs := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		algs[i] = jose.SignatureAlgorithm(a)
	}
	jws, err := jose.ParseSignedCompact(token, algs)
	if err != nil {
		return nil, errors.New("malformed token")
	}
	if len(jws.Signatures) != 1 {
		return nil, errors.New("a token has one signature")
	}
	id := jws.Signatures[0].Header.KeyID
	set, err := k.current(ctx, id)
	if err != nil {
		return nil, err
	}
	for i := range set {
		if id != "" && set[i].KeyID != id {
			continue
		}
		if payload, err := jws.Verify(&set[i]); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key of the issuer made the signature")
}

// current returns the keys to try for a key id, fetched anew if need be.
func (k *keys) current(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	now := k.cfg.Now()
	fresh := !k.fetched.IsZero() && now.Sub(k.fetched) < k.cfg.Stale
	known := id == ""
	for i := range k.set {
		known = known || k.set[i].KeyID == id
	}
	wanted := !fresh || !known || now.Sub(k.fetched) >= k.cfg.Refresh
	if wanted && k.fetching == nil && !k.closed && (k.tried.IsZero() || now.Sub(k.tried) >= k.cfg.Again) {
		k.begin(now)
	}
	set, wait := k.set, k.fetching
	k.mu.Unlock()
	if fresh && known {
		return set, nil
	}
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetched.IsZero() || k.cfg.Now().Sub(k.fetched) >= k.cfg.Stale {
		return nil, errors.Join(errNoKeys, k.failed)
	}
	return k.set, nil
}

// begin starts a fetch. Needs k.mu.
func (k *keys) begin(now time.Time) {
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	k.fetching, k.tried, k.cancel = done, now, cancel
	go func() {
		set, err := k.fetch(ctx)
		cancel()
		k.mu.Lock()
		if k.failed = err; err == nil {
			k.set, k.fetched = set, now
		}
		k.fetching = nil
		k.mu.Unlock()
		close(done)
	}()
}

func (k *keys) close() {
	k.mu.Lock()
	k.closed = true
	wait := k.fetching
	if wait != nil {
		k.cancel()
	}
	k.mu.Unlock()
	if wait != nil {
		<-wait
	}
}

func (k *keys) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	at := k.cfg.JWKS
	if at == "" {
		var doc struct {
			Issuer string `json:"issuer"`
			JWKS   string `json:"jwks_uri"`
		}
		if err := k.get(ctx, strings.TrimSuffix(k.cfg.Issuer, "/")+"/.well-known/openid-configuration", &doc); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		if doc.Issuer != k.cfg.Issuer {
			return nil, fmt.Errorf("discovery: the document is of issuer %.200q", doc.Issuer)
		}
		if err := fetchable(doc.JWKS); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		at = doc.JWKS
	}
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, at, &raw); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if len(raw.Keys) > maxKeys {
		return nil, fmt.Errorf("keys: %d of them, at most %d", len(raw.Keys), maxKeys)
	}
	var set []jose.JSONWebKey
	for _, r := range raw.Keys {
		var key jose.JSONWebKey
		// A key of a kind that we do not know is not ours to judge; a secret one is
		// no key to verify with.
		if json.Unmarshal(r, &key) != nil || !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
			continue
		}
		set = append(set, key)
	}
	if len(set) == 0 {
		return nil, errors.New("keys: none to verify signatures with")
	}
	return set, nil
}

func (k *keys) get(ctx context.Context, at string, into any) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	resp, err := k.cfg.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", at, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return err
	}
	if len(b) > maxDocument {
		return fmt.Errorf("%s answers more than %d bytes", at, maxDocument)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s answers no JSON of the kind", at)
	}
	return nil
}
