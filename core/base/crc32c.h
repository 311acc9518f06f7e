/*
 * crc32c.h - CRC-32C (Castagnoli polynomial, RFC 3720 appendix B.4), reflected, as in iSCSI and
 * ext4.
 */
#ifndef SLUICE_CORE_CRC32C_H
#define SLUICE_CORE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC of BYTES, continuing CRC (0 to start). crc32c(0, "123456789", 9) is 0xE3069283. Any thread.
 */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);

#endif
