/* wsecho - a cheap, single-threaded, epoll WebSocket echo server.
 *
 * The neutral peer of the CLIENT cases.  Unmasks 8 bytes at a time, answers
 * with unmasked frames, batches all the replies to one read into one send,
 * negotiates no extension.  With --raw it is a plain TCP echo.
 * Prints "READY <port>" once it listens; ends on SIGTERM or when stdin closes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    int fd, open, closing;
    uint8_t *in, *out;
    size_t inlen, incap, outlen, outoff, outcap;
    uint32_t ev;
} conn_t;
static int ep, raw_mode;

/* ---- SHA-1 + base64, for Sec-WebSocket-Accept ---- */
static uint32_t rol(uint32_t v, int n) { return v << n | v >> (32 - n); }
static void sha1(const uint8_t *d, size_t n, uint8_t out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    size_t tot = ((n + 8) / 64 + 1) * 64;
    uint8_t *m = calloc(tot, 1);
    memcpy(m, d, n); m[n] = 0x80;
    for (int i = 0; i < 8; i++) m[tot - 1 - i] = (uint64_t)n * 8 >> (8 * i);
    for (size_t o = 0; o < tot; o += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], dd = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            uint8_t *b = m + o + 4 * i;
            w[i] = (uint32_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rol(w[i-3] ^ w[i-8] ^ w[i-14] ^ w[i-16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) { f = (b & c) | (~b & dd); k = 0x5A827999; }
            else if (i < 40) { f = b ^ c ^ dd; k = 0x6ED9EBA1; }
            else if (i < 60) { f = (b & c) | (b & dd) | (c & dd); k = 0x8F1BBCDC; }
            else { f = b ^ c ^ dd; k = 0xCA62C1D6; }
            uint32_t t = rol(a, 5) + f + e + k + w[i];
            e = dd; dd = c; c = rol(b, 30); b = a; a = t;
        }
        h[0] += a; h[1] += b; h[2] += c; h[3] += dd; h[4] += e;
    }
    free(m);
    for (int i = 0; i < 20; i++) out[i] = h[i / 4] >> (24 - 8 * (i % 4));
}
static void b64(const uint8_t *d, int n, char *o) {
    static const char t[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < n; i += 3) {
        uint32_t v = d[i] << 16 | (i + 1 < n ? d[i+1] << 8 : 0) | (i + 2 < n ? d[i+2] : 0);
        *o++ = t[v >> 18 & 63]; *o++ = t[v >> 12 & 63];
        *o++ = i + 1 < n ? t[v >> 6 & 63] : '='; *o++ = i + 2 < n ? t[v & 63] : '=';
    }
    *o = 0;
}

static void put(conn_t *c, const void *d, size_t n) {
    if (c->outlen + n > c->outcap) {
        c->outcap = (c->outlen + n) * 2;
        c->out = realloc(c->out, c->outcap);
    }
    memcpy(c->out + c->outlen, d, n); c->outlen += n;
}
static void setev(conn_t *c, uint32_t ev) {
    if (c->ev == ev) return;
    struct epoll_event e = {.events = ev, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e); c->ev = ev;
}
static void drop(conn_t *c) {
    epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, 0);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static int flush_out(conn_t *c) {
    while (c->outoff < c->outlen) {
        ssize_t k = send(c->fd, c->out + c->outoff, c->outlen - c->outoff, MSG_NOSIGNAL);
        if (k < 0 && errno == EAGAIN) { setev(c, EPOLLIN | EPOLLOUT); return 0; }
        if (k < 0) { drop(c); return -1; }
        c->outoff += k;
    }
    c->outoff = c->outlen = 0;
    setev(c, EPOLLIN);
    if (c->closing) { drop(c); return -1; }
    return 0;
}

static void unmask(uint8_t *p, size_t n, const uint8_t *k) {
    uint32_t k4; memcpy(&k4, k, 4);
    uint64_t k8 = (uint64_t)k4 << 32 | k4;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) { uint64_t v; memcpy(&v, p + i, 8); v ^= k8; memcpy(p + i, &v, 8); }
    for (; i < n; i++) p[i] ^= k[i & 3];
}

static size_t frames(conn_t *c) {
    uint8_t *b = c->in; size_t pos = 0, n = c->inlen;
    while (n - pos >= 6) {
        uint8_t *h = b + pos; size_t hl = 6; uint64_t l = h[1] & 127;
        if (l == 126) { hl = 8; if (n - pos < hl) break; l = h[2] << 8 | h[3]; }
        else if (l == 127) {
            hl = 14;
            if (n - pos < hl) break;
            l = 0;
            for (int i = 2; i < 10; i++) l = l << 8 | h[i];
        }
        if (n - pos < hl + l) break;
        uint8_t *p = h + hl;
        if (!(h[1] & 0x80)) { fprintf(stderr, "client frame is not masked\n"); exit(4); }
        unmask(p, l, p - 4);
        uint8_t o[10]; int ol = 2; uint8_t op = h[0] & 15;
        o[0] = h[0]; if (op == 9) o[0] = 0x8a;
        if (l < 126) o[1] = l; else if (l < 65536) { o[1] = 126; o[2] = l >> 8; o[3] = l; ol = 4; }
        else { o[1] = 127; for (int i = 0; i < 8; i++) o[2 + i] = l >> (56 - 8 * i); ol = 10; }
        if (op != 10) { put(c, o, ol); put(c, p, l); }
        if (op == 8) c->closing = 1;
        pos += hl + l;
    }
    return pos;
}

static void on_read(conn_t *c) {
    for (;;) {
        if (c->incap - c->inlen < 65536) {
            c->incap = c->incap ? c->incap * 2 : 262144;
            c->in = realloc(c->in, c->incap);
        }
        size_t room = c->incap - c->inlen;
        ssize_t k = recv(c->fd, c->in + c->inlen, room, 0);
        if (k < 0) { if (errno == EAGAIN) break; drop(c); return; }
        if (k == 0) { drop(c); return; }
        c->inlen += k;
        size_t used = 0;
        if (raw_mode) { put(c, c->in, c->inlen); used = c->inlen; }
        else {
            if (!c->open) {
                uint8_t *e = memmem(c->in, c->inlen, "\r\n\r\n", 4);
                if (!e) break;
                *e = 0;
                char *q = strcasestr((char *)c->in, "\nsec-websocket-key:");
                if (!q) { drop(c); return; }
                q += 19; while (*q == ' ') q++;
                char key[128]; int n = strcspn(q, "\r\n "); if (n > 60) { drop(c); return; }
                memcpy(key, q, n); strcpy(key + n, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
                uint8_t dg[20];
                char acc[40], r[256];
                sha1((uint8_t *)key, strlen(key), dg);
                b64(dg, 20, acc);
                int rl = snprintf(r, sizeof r,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", acc);
                put(c, r, rl);
                size_t u = e + 4 - c->in;
                memmove(c->in, c->in + u, c->inlen - u); c->inlen -= u; c->open = 1;
            }
            used = frames(c);
        }
        if (used) { memmove(c->in, c->in + used, c->inlen - used); c->inlen -= used; }
        if ((size_t)k < room) break;
    }
    if (c->outlen && !(c->ev & EPOLLOUT)) flush_out(c);
}

int main(int argc, char **argv) {
    int port = 0;
    static struct option o[] = {{"port", 1, 0, 'p'}, {"raw", 0, 0, 'r'}, {0}};
    for (int ch; (ch = getopt_long(argc, argv, "", o, NULL)) != -1;) switch (ch) {
        case 'p': port = atoi(optarg); break;
        case 'r': raw_mode = 1; break;
        default: return 2;
    }
    int ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t al = sizeof a;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(ls, (void *)&a, sizeof a) || listen(ls, 1024)) { perror("listen"); return 1; }
    getsockname(ls, (void *)&a, &al);
    ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(ep, EPOLL_CTL_ADD, ls, &e);
    static int stdin_tag;
    struct epoll_event e2 = {.events = EPOLLIN | EPOLLHUP, .data.ptr = &stdin_tag};
    epoll_ctl(ep, EPOLL_CTL_ADD, 0, &e2);
    printf("READY %d\n", ntohs(a.sin_port)); fflush(stdout);
    struct epoll_event ev[256];
    for (;;) {
        int n = epoll_wait(ep, ev, 256, -1);
        for (int i = 0; i < n; i++) {
            if (ev[i].data.ptr == NULL) {
                int fd;
                while ((fd = accept4(ls, 0, 0, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    conn_t *c = calloc(1, sizeof *c); c->fd = fd; c->ev = EPOLLIN;
                    struct epoll_event x = {.events = EPOLLIN, .data.ptr = c};
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &x);
                }
            } else if (ev[i].data.ptr == &stdin_tag) {
                char b[64]; if (read(0, b, sizeof b) <= 0) return 0;
            } else {
                conn_t *c = ev[i].data.ptr;
                if (ev[i].events & EPOLLOUT) { if (flush_out(c) < 0) continue; }
                if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_read(c);
            }
        }
    }
}
