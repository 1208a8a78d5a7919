package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/braidstream/braid/internal/nearest"
)

// Client options under the names that Kafka's own clients use. Values of those
// marked secret are references, file:PATH or env:NAME.
const (
	keyProtocol   = "security.protocol" // PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL
	keyMechanism  = "sasl.mechanism"    // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER
	keyJaas       = "sasl.jaas.config"  // secret
	keyUsername   = "sasl.username"
	keyPassword   = "sasl.password"                         // secret
	keyToken      = "sasl.oauthbearer.token"                // secret; read anew for each connection
	keyCA         = "ssl.truststore.location"               // PEM file
	keyCert       = "ssl.keystore.certificate.chain"        // PEM file
	keyKey        = "ssl.keystore.key"                      // PEM file, 0600
	keyServerName = "ssl.server.name"                       // instead of the broker's host
	keyIdentify   = "ssl.endpoint.identification.algorithm" // https (default) or empty for none
)

// ConfigKeys lists the options that a cluster's Config may hold.
var ConfigKeys = []string{
	keyProtocol, keyMechanism, keyJaas, keyUsername, keyPassword, keyToken,
	keyCA, keyCert, keyKey, keyServerName, keyIdentify,
}

// security is how to secure a connection. What it calls reads files and secrets anew, for each connection.
type security struct {
	tls  func() *tls.Config // nil: plain text
	sasl func() (sasl.Mechanism, error)
}

// CheckConfig tells whether the options are complete and their files and secrets
// are there. It connects to nothing.
func CheckConfig(config map[string]string) error {
	_, err := newSecurity(config)
	return err
}

// secretKeys are the options whose value is a reference to a secret.
var secretKeys = []string{keyJaas, keyPassword, keyToken}

// CheckSecrets tells whether no option holds a secret itself, used or not: options are stored in the catalog. It
// reads nothing, and no error holds the value.
func CheckSecrets(config map[string]string) error {
	for _, k := range secretKeys {
		if v, ok := config[k]; ok && !isReference(v) {
			return notReference(k)
		}
	}
	if strings.Contains(config[keyKey], "-----BEGIN") {
		return fmt.Errorf("%s: must be the path of a PEM file, not the key itself", keyKey)
	}
	return nil
}

// Redact returns the options with all that could hold a secret blanked out.
func Redact(config map[string]string) map[string]string {
	out := maps.Clone(config)
	for _, k := range secretKeys {
		if v, ok := out[k]; ok && !isReference(v) {
			out[k] = "[redacted]"
		}
	}
	return out
}

func newSecurity(config map[string]string) (*security, error) {
	for _, k := range slices.Sorted(maps.Keys(config)) {
		if !slices.Contains(ConfigKeys, k) {
			if near := nearest.Name(k, ConfigKeys); near != "" {
				return nil, fmt.Errorf("unknown client option %q; did you mean %q?", k, near)
			}
			return nil, fmt.Errorf("unknown client option %q", k)
		}
	}
	if err := CheckSecrets(config); err != nil {
		return nil, err
	}
	s := new(security)
	protocol := strings.ToUpper(config[keyProtocol])
	switch protocol {
	case "", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL":
	default:
		return nil, fmt.Errorf("%s: %q is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL", keyProtocol, config[keyProtocol])
	}
	var err error
	if strings.HasSuffix(protocol, "SSL") {
		if s.tls, err = rereadTLS(config); err != nil {
			return nil, err
		}
	}
	if strings.HasPrefix(protocol, "SASL_") {
		if s.sasl, err = newSASL(config); err != nil {
			return nil, err
		}
		// Once now, so that a missing secret shows before the first connection.
		if _, err := s.sasl(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// rereadTLS returns what reads certificates and keys for a connection, so that rotated ones take effect with
// the next. Files that are replaced one after the other do not fit for a moment: what was read last then
// still holds, and the connection after it tries again.
func rereadTLS(config map[string]string) (func() *tls.Config, error) {
	first, err := newTLS(config)
	if err != nil {
		return nil, err
	}
	var last atomic.Pointer[tls.Config]
	last.Store(first)
	return func() *tls.Config {
		if next, err := newTLS(config); err == nil {
			last.Store(next)
		}
		return last.Load()
	}, nil
}

func newTLS(config map[string]string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: config[keyServerName]}
	if path := pemPath(config[keyCA]); path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", keyCA, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: %s holds no PEM certificate", keyCA, path)
		}
	}
	cert, key := pemPath(config[keyCert]), pemPath(config[keyKey])
	if (cert == "") != (key == "") {
		return nil, fmt.Errorf("%s and %s belong together", keyCert, keyKey)
	}
	if cert != "" {
		chain, err := os.ReadFile(cert)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", keyCert, err)
		}
		private, err := readPrivate(key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", keyKey, err)
		}
		pair, err := tls.X509KeyPair(chain, private)
		if err != nil {
			// The error of the parser says what is wrong, never the key.
			return nil, fmt.Errorf("%s and %s: %w", keyCert, keyKey, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if v, ok := config[keyIdentify]; ok {
		switch strings.ToLower(v) {
		case "https":
		case "":
			verifyChainOnly(c)
		default:
			return nil, fmt.Errorf("%s: %q is neither https nor empty", keyIdentify, v)
		}
	}
	return c, nil
}

// pemPath takes PATH and file:PATH.
func pemPath(v string) string { return strings.TrimPrefix(v, "file:") }

// verifyChainOnly checks who signed the broker's certificate, and not for which
// host: what an empty ssl.endpoint.identification.algorithm asks for.
func verifyChainOnly(c *tls.Config) {
	c.InsecureSkipVerify = true
	roots := c.RootCAs
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, cert := range cs.PeerCertificates[1:] {
			opts.Intermediates.AddCert(cert)
		}
		_, err := cs.PeerCertificates[0].Verify(opts)
		return err
	}
}

// newSASL returns what makes a mechanism. Secrets are read at each use, so that
// rotated ones take effect with the next connection.
func newSASL(config map[string]string) (func() (sasl.Mechanism, error), error) {
	mechanism := strings.ToUpper(config[keyMechanism])
	switch mechanism {
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER":
	default:
		return nil, fmt.Errorf("%s: %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER", keyMechanism, config[keyMechanism])
	}
	if mechanism == "OAUTHBEARER" {
		if config[keyToken] == "" {
			return nil, fmt.Errorf("%s needs %s", mechanism, keyToken)
		}
		return func() (sasl.Mechanism, error) {
			token, err := readSecret(keyToken, config[keyToken])
			if err != nil {
				return nil, err
			}
			return oauth.Oauth(func(context.Context) (oauth.Auth, error) { return oauth.Auth{Token: token}, nil }), nil
		}, nil
	}
	return func() (sasl.Mechanism, error) {
		user, password, err := credentials(config)
		if err != nil {
			return nil, err
		}
		switch mechanism {
		case "PLAIN":
			return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
		case "SCRAM-SHA-256":
			return scram.Auth{User: user, Pass: password}.AsSha256Mechanism(), nil
		}
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism(), nil
	}, nil
}

func credentials(config map[string]string) (user, password string, err error) {
	if ref := config[keyJaas]; ref != "" {
		text, err := readSecret(keyJaas, ref)
		if err != nil {
			return "", "", err
		}
		return parseJaas(text)
	}
	if config[keyUsername] == "" || config[keyPassword] == "" {
		return "", "", fmt.Errorf("%s needs %s and %s, or %s", keyMechanism, keyUsername, keyPassword, keyJaas)
	}
	password, err = readSecret(keyPassword, config[keyPassword])
	return config[keyUsername], password, err
}

// parseJaas finds username and password in an entry such as
//
//	org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p";
//
// Its errors never quote the text.
func parseJaas(text string) (user, password string, err error) {
	found := map[string]string{}
	for len(text) > 0 {
		at := strings.IndexByte(text, '=')
		if at < 0 {
			break
		}
		fields := strings.Fields(text[:at])
		if len(fields) == 0 {
			return "", "", errors.New(keyJaas + ": an option without a name")
		}
		name := fields[len(fields)-1]
		rest := strings.TrimLeft(text[at+1:], " \t\r\n")
		if rest == "" {
			return "", "", errors.New(keyJaas + ": an option without a value")
		}
		if rest[0] != '"' && rest[0] != '\'' {
			end := strings.IndexAny(rest, " \t\r\n;")
			if end < 0 {
				end = len(rest)
			}
			found[name], text = rest[:end], rest[end:]
			continue
		}
		var value strings.Builder
		i, closed := 1, false
		for ; i < len(rest); i++ {
			if rest[i] == '\\' && i+1 < len(rest) {
				i++
			} else if rest[i] == rest[0] {
				closed = true
				break
			}
			value.WriteByte(rest[i])
		}
		if !closed {
			return "", "", errors.New(keyJaas + ": a quoted value does not end")
		}
		found[name], text = value.String(), rest[i+1:]
	}
	user, password = found["username"], found["password"]
	if user == "" || password == "" {
		return "", "", errors.New(keyJaas + ": no username and password in it")
	}
	return user, password, nil
}
