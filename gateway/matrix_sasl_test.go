package gateway

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// saslRequests are the requests of TestEveryKeyEveryVersion for keys about users,
// on a listener without SASL.
func saslRequests() map[int16]func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
	return map[int16]func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error){
		keySaslHandshake: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrSASLHandshakeRequest()
			req.Mechanism = "PLAIN"
			return req, func(resp kmsg.Response) error {
				return wantCode(resp.(*kmsg.SASLHandshakeResponse).ErrorCode, wire.IllegalSASLState)
			}
		},
		keySaslAuthenticate: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrSASLAuthenticateRequest()
			req.SASLAuthBytes = []byte("\x00alice\x00secret")
			return req, func(resp kmsg.Response) error {
				return wantCode(resp.(*kmsg.SASLAuthenticateResponse).ErrorCode, wire.IllegalSASLState)
			}
		},
		keyAlterUserScram: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
			up := func(name string, mechanism int8, iterations int32, size int) {
				u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
				u.Name, u.Mechanism, u.Iterations, u.Salt, u.SaltedPassword = name, mechanism, iterations, []byte("salt"), make([]byte, size)
				req.Upsertions = append(req.Upsertions, u)
			}
			up("alice", 1, 4096, 32)
			up("alice", 2, 8192, 64)
			up("few", 1, 4095, 32)
			up("many", 1, 16385, 32)
			up("short", 1, 4096, 31)
			up("unknown", 3, 4096, 32)
			up("", 1, 4096, 32)
			up("a\nb", 1, 4096, 32)
			up("twice", 1, 4096, 32)
			up("twice", 1, 4096, 32)
			d := kmsg.NewAlterUserSCRAMCredentialsRequestDeletion()
			d.Name, d.Mechanism = "nobody", 1
			req.Deletions = append(req.Deletions, d)
			want := map[string]wire.Code{"alice": wire.None, "few": wire.UnacceptableCredential, "many": wire.UnacceptableCredential,
				"short": wire.UnacceptableCredential, "unknown": wire.UnsupportedSASLMechanism, "": wire.UnacceptableCredential,
				"a\nb": wire.UnacceptableCredential, "twice": wire.DuplicateResource, "nobody": wire.ResourceNotFound}
			return req, func(resp kmsg.Response) error {
				rs := resp.(*kmsg.AlterUserSCRAMCredentialsResponse).Results
				var errs []error
				for _, r := range rs {
					if err := wantCode(r.ErrorCode, want[r.User]); err != nil {
						errs = append(errs, fmt.Errorf("%q: %w", r.User, err))
					}
				}
				if len(rs) != len(want) {
					errs = append(errs, fmt.Errorf("%d results", len(rs)))
				}
				return errors.Join(errs...)
			}
		},

		keyDescribeUserScram: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
			for _, name := range []string{"nobody", "twice", "twice"} {
				u := kmsg.NewDescribeUserSCRAMCredentialsRequestUser()
				u.Name = name
				req.Users = append(req.Users, u)
			}
			return req, func(resp kmsg.Response) error {
				rs := resp.(*kmsg.DescribeUserSCRAMCredentialsResponse).Results
				if len(rs) != 2 {
					return fmt.Errorf("%+v", rs)
				}
				return errors.Join(wantCode(rs[0].ErrorCode, wire.ResourceNotFound), wantCode(rs[1].ErrorCode, wire.DuplicateResource))
			}
		},
	}
}
