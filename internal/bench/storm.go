package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Who signs on in a storm.
const (
	stormUser     = "storm"
	stormPassword = "not-a-secret-of-anybody"
	// stormWidth is how many sign on at once: half of what a gateway lets one address have unauthenticated.
	stormWidth = 2048
)

// dial connects as the plan says: plain, with TLS, and signed on with SCRAM-SHA-256.
func (l *loader) dial(ctx context.Context) (*rawConn, error) {
	p := &l.plan
	c, err := dialRaw(ctx, p.Addr, p.ClientID)
	if err != nil {
		return nil, err
	}
	if p.TLS {
		// Its certificate is made for this run, and nobody else is on loopback.
		secured := tls.Client(c.nc, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
		if err := secured.HandshakeContext(ctx); err != nil {
			c.close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		c.nc = secured
	}
	if p.User == "" {
		return c, nil
	}
	if err := c.signOn(ctx, p.User, p.Password); err != nil {
		c.close()
		return nil, fmt.Errorf("sign on: %w", err)
	}
	return c, nil
}

func (c *rawConn) signOn(ctx context.Context, user, password string) error {
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Version, hello.Mechanism = 1, "SCRAM-SHA-256"
	answer, err := c.roundTrip(hello)
	if err == nil {
		err = kerr.ErrorForCode(answer.(*kmsg.SASLHandshakeResponse).ErrorCode)
	}
	if err != nil {
		return err
	}
	session, message, err := scram.Auth{User: user, Pass: password}.AsSha256Mechanism().Authenticate(ctx, "")
	for done := false; err == nil && !done; {
		req := kmsg.NewPtrSASLAuthenticateRequest()
		req.Version, req.SASLAuthBytes = 1, message
		if answer, err = c.roundTrip(req); err != nil {
			break
		}
		resp := answer.(*kmsg.SASLAuthenticateResponse)
		if err = kerr.ErrorForCode(resp.ErrorCode); err != nil {
			break
		}
		done, message, err = session.Challenge(resp.SASLAuthBytes)
	}
	return err
}

// storm is one client that connects, signs on, asks for metadata and stays.
func (l *loader) storm(ctx context.Context, _ int, warm func()) error {
	l.signing <- struct{}{}
	c, err := l.dial(ctx)
	<-l.signing
	if err != nil {
		return err
	}
	defer c.close()
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = 9, []kmsg.MetadataRequestTopic{}
	if _, err := c.roundTrip(req); err != nil {
		return err
	}
	warm()
	<-ctx.Done()
	return nil
}

// certificate makes a self-signed one for loopback.
func certificate(dir string) (certFile, keyFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	cert, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return "", "", err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(dir, "bench-cert.pem"), filepath.Join(dir, "bench-key.pem")
	return certFile, keyFile, errors.Join(os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
}

// besideStorm compares a running producer's latency with that while 5,000 clients connect at once, with TLS
// and SCRAM-SHA-256, and tells how long those take; and with that while they connect to another process.
func (e *env) besideStorm(ctx context.Context, quiet, secured, elsewhere *peer) ([]figure, error) {
	var alone, beside, apart, took []float64
	for range e.opts.rounds {
		for _, at := range []*peer{nil, secured, elsewhere} {
			r, seconds, err := e.stormTurn(ctx, quiet, at)
			if err != nil {
				return nil, err
			}
			switch at {
			case nil:
				alone = append(alone, r.quantile(0.99))
			case secured:
				beside, took = append(beside, r.quantile(0.99)), append(took, seconds)
			default:
				apart = append(apart, r.quantile(0.99))
			}
		}
	}
	n := e.opts.pick(5000, 500)
	return []figure{
		figure{Name: fmt.Sprintf("%d connections with TLS and SCRAM", n), Unit: "s", Value: median(took)}.valueAtMost(20),
		against("a running producer's p99 meanwhile", "ms", beside, "alone", alone).ratioAtMost(2),
		against("… what the machine does: the same storm elsewhere", "ms", apart, "alone", alone),
		against("… what the gateway does", "ms", beside, "the storm elsewhere", apart).ratioAtMost(2),
	}, nil
}

// stormTurn runs a producer, and with a peer a storm at it.
func (e *env) stormTurn(ctx context.Context, quiet, at *peer) (r loadResult, seconds float64, err error) {
	topic, drop, err := e.topic(ctx, quiet, partitions)
	if err != nil {
		return r, 0, err
	}
	defer drop()
	running, err := e.startLoad(ctx, quietPlan(quiet.addr, topic))
	if err != nil {
		return r, 0, err
	}
	defer running.end()
	if err := pause(ctx, e.opts.warmUp()); err != nil {
		return r, 0, err
	}
	if err := running.say("mark"); err != nil {
		return r, 0, err
	}
	if at == nil {
		if err := pause(ctx, e.opts.window); err != nil {
			return r, 0, err
		}
		r, err = running.stop(ctx)
		return r, 0, err
	}
	began := time.Now()
	storm, err := e.startLoad(ctx, loadPlan{Kind: "storm", Addr: at.addr, ClientID: "storm", TLS: true, User: stormUser, Password: stormPassword,
		Connections: e.opts.pick(5000, 500), MayStarve: true})
	if err != nil {
		return r, 0, err
	}
	seconds = time.Since(began).Seconds()
	defer storm.end()
	r, err = running.stop(ctx)
	return r, seconds, err
}
