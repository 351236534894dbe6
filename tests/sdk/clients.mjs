export const CLIENTS = {};
