"""moto's server, with what it lacks of signatures: a MessageType of DIGEST, and that a key which is to be deleted signs no more.

Everything that is signed here is a SHA-256 digest, and has to be sent as one.
"""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils as prehashed
from moto.core.exceptions import JsonRESTError
from moto.kms import models, responses, utils
from moto.server import main


def digest():
    return prehashed.Prehashed(hashes.SHA256())


utils.ECDSAPrivateKey.sign = lambda self, message, algorithm: self.private_key.sign(message, ec.ECDSA(digest()))
utils.RSAPrivateKey.sign = lambda self, message, algorithm: self.private_key.sign(message, padding.PKCS1v15(), digest())

sign = models.KmsBackend.sign


def sign_if_enabled(self, key_id, message, signing_algorithm):
    if self.describe_key(key_id).key_state != "Enabled":
        raise JsonRESTError("KMSInvalidStateException", "the state of the key")
    return sign(self, key_id, message, signing_algorithm)


models.KmsBackend.sign = sign_if_enabled

respond = responses.KmsResponse.sign


def respond_to_digests(self):
    if self._get_param("MessageType") != "DIGEST":
        raise JsonRESTError("ValidationException", "the test's server signs digests")
    return respond(self)


responses.KmsResponse.sign = respond_to_digests

if __name__ == "__main__":
    main()
